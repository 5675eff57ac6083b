"""Settings of the language. A field of an IR class declares a setting; the checker, completion and docs read the same record.

`tokens: int = setting("The budget of each job.", at_least=0)` is a field with a `Setting` in its metadata. The setting's
name, type, words, calls and default come from the field. `settings_of` and `call_of` make the tables of a class.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import MISSING, field, replace
from fractions import Fraction
from functools import cache, cached_property
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from puzzledsl.base.frozen import Frozen, Record, type_of
from puzzledsl.base.units import COUNT, Dimension, format_quantity

REQUIRED: Any = object()  # The default of a setting that must be written.


class Setting(Record):
    """One setting of a body, or one argument of a call.

    `words` mean themselves even if a declaration has the same name; `calls` do unless a `let`, `param` or `fn` has it. `kinds`:
    declarations that the value can name. `noun` names the value in diagnostics. `default` is Markdown. A number has the dimension
    `unit`, and is above `more_than`, at least `at_least` and at most `at_most`. `write`: the help if the setting is missing.
    `type`: the value's type (None: the declaration reads it); `value`: the default; `name`: the field's name.
    """

    doc: str
    words: tuple[str, ...] = ()
    calls: Mapping[str, Call] = field(default_factory=dict)
    kinds: tuple[str, ...] = ()
    noun: str = ""
    default: str = ""
    bare: bool = False  # accepts any word that no `let` or `param` declares
    sums: bool = False  # its words or names are joined by `+` and `*`
    in_patterns: bool = True  # a pattern can test it: `gqa(kv_heads: >= 4)`
    elsewhere: tuple[str, ...] = ()  # its names in other tools, which a help translates
    unit: Dimension = COUNT
    more_than: int | None = None
    at_least: int | Fraction | None = None
    at_most: int | Fraction | None = None
    write: str = ""
    word: str = ""  # its name in the language, where it is not the field's
    positional: bool = False  # its call takes it without its name
    type: Any = None
    many: bool = False  # several: `"a", "b"`, or `a + b`
    wide: bool = False  # it sets more fields than its own
    value: Any = REQUIRED
    name: str = ""


class Call(Record):
    """A constructor, such as `gqa(kv_heads: 8)`. Its first `positional` arguments can be given without names.

    `node`: the IR class whose instance the checker makes of it; `write`: the help if an argument is missing.
    """

    doc: str
    arguments: Mapping[str, Setting] = field(default_factory=dict)
    positional: int = 0
    rest: bool = False  # the last positional argument may be repeated
    named_by: tuple[str, ...] = ()  # its arguments have the names of declarations of these kinds
    node: type[Frozen] | None = None
    write: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its arguments."""
        return tuple(self.arguments)

    def argument(self, name: str | None, place: int) -> Setting | None:
        """Return the argument called `name`, or, if that is None, the one at index `place`; None if there is no such."""
        if self.named_by:
            return Setting("Its weight.") if name is not None else Setting("", kinds=self.named_by)
        if name is not None:
            return self.arguments.get(name)
        if place < self.positional or (self.rest and self.positional):
            return self.arguments[self.names[min(place, self.positional - 1)]]
        return None


class Section(Record):
    """A named group of settings in a body: `peak { bf16 = 989TFLOP/s }`."""

    doc: str
    settings: Mapping[str, Setting]


class Kind(Record):
    """One kind of declaration. `form`: an example of its syntax; `plural`: the field of the IR's program that holds these.

    `value`: the setting right of `=`; `statements`: the keywords that statements of its body can begin with. `targets`: kinds of
    the declaration that it builds on; `of`: the field with that declaration's name.
    """

    form: str
    plural: str = ""
    targets: tuple[str, ...] = ()
    of: str = ""
    doc: str = ""
    value: Setting | None = None
    settings: Mapping[str, Setting] = field(default_factory=dict)
    sections: Mapping[str, Section] = field(default_factory=dict)
    statements: tuple[str, ...] = ("let", "assert")
    sees_space: bool = False  # its expressions see `layers`, `attention`, `params` …
    edits_layers: bool = False  # its body has overrides: `layers[2..9].attention -= noop`

    @cached_property
    def preposition(self) -> str:
        """The word before the declaration that it builds on: `of` or `on`; empty if it builds on none."""
        return "" if not self.targets else "on" if " on " in self.form else "of"

    def table(self, section: str = "") -> Mapping[str, Setting]:
        """Return the settings of its body, or of the named section in it; an empty table for an unknown section."""
        if not section:
            return self.settings
        return self.sections[section].settings if section in self.sections else {}


def setting(
    doc: str, *, default: Any = REQUIRED, shown: str | None = None, left_out: bool = False, **facts: Any
) -> Any:
    """Return a dataclass field that is a setting of the language. `facts`: further fields of `Setting`.

    `shown`: the default in Markdown, if not made of `default`. `left_out`: JSON omits the field if it has its default.
    """
    text = _shown(default, facts.get("unit", COUNT)) if shown is None else shown
    known: dict[str, Any] = {"setting": Setting(doc, default=text, **facts), "description": doc}
    if left_out:
        known["exclude_if"] = lambda value: value == default
    return field(default=MISSING if default is REQUIRED else default, metadata=known)


def _settings_of(node: type[Frozen]) -> Mapping[str, Setting]:
    """Return the settings of a class by name in the language, positional ones first, else its own before its bases'."""
    names = (name for each in node.__mro__ for name in inspect.get_annotations(each))
    found: dict[str, Setting] = {}
    for name in dict.fromkeys(names):
        known = node.model_fields.get(name)
        if known is not None and (own := known.metadata.get("setting")) is not None:
            found[own.word or name] = _completed(own, name, type_of(node, name), known.default)
    return dict(sorted(found.items(), key=lambda item: not item[1].positional))


def _completed(own: Setting, name: str, annotation: Any, default: Any) -> Setting:
    """Return the setting `own` completed from its field: type, words and calls from `annotation`, and the default."""
    kind, many = _plain(annotation)
    words, calls = own.words, own.calls
    if get_origin(kind) is Literal:
        words, kind = words or (() if calls else get_args(kind)), str
    elif not calls:
        members = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
        nodes = (each for each in members if isinstance(each, type) and issubclass(each, Frozen))
        calls = {word: call for each in nodes for word, call in calls_of(each).items()}
    value = REQUIRED if default is MISSING else default
    if kind is bool:
        words = words or ("true", "false")
    facts: dict[str, Any] = {"type": kind, "many": many, "value": value, "words": words, "calls": calls}
    return replace(own, name=name, **facts)


def _plain(annotation: Any) -> tuple[Any, bool]:
    """Return a type without None, `Annotated` and `tuple[…, ...]`, and True if it was such a tuple (of several values)."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _plain(inner[0])
    if origin in (Union, UnionType):
        members = [each for each in inner if each is not NoneType]
        return _plain(members[0]) if len(members) == 1 else (annotation, False)
    if origin is tuple and inner[1:] == (...,):
        return inner[0], True
    return annotation, False


def _shown(value: Any, unit: Dimension) -> str:
    """Return a default in Markdown; empty for one that is empty or not a plain value, such as None."""
    if isinstance(value, bool):
        return f"`{value}`".lower()
    if isinstance(value, int) and value and value % 1024 == 0:
        return f"`{value // 1024}Ki`"
    if isinstance(value, int | Fraction):
        return f"`{format_quantity(value, unit)}`"
    return f"`{value}`" if value and isinstance(value, str | float) else ""


def _calls_of(node: type[Frozen]) -> Mapping[str, Call]:
    """Return the constructors of a class by name: one for each value of its field `kind`; none without settings."""
    explained: Mapping[str, str] = getattr(node, "words", {})
    if "kind" not in node.model_fields or not settings_of(node):
        return {}
    names = tuple(explained) or get_args(type_of(node, "kind"))
    return {name: call_of(node, explained.get(name, ""), name) for name in names}


def call_of(node: type[Frozen], doc: str = "", name: str = "") -> Call:
    """Return the constructor of a class. Its arguments are the settings; its text is `doc`, or the class's first paragraph."""
    arguments, example = settings_of(node), getattr(node, "example", "")
    positional = [each for each in arguments.values() if each.positional]
    return Call(
        doc or " ".join((node.__doc__ or "").split("\n\n")[0].split()),
        arguments,
        len(positional),
        rest=bool(positional) and positional[-1].many,
        node=node,
        write=f"write `{name}{example}`" if example else "",
    )


# mypy holds the classes for unhashable
settings_of: Callable[[type[Frozen]], Mapping[str, Setting]] = cache(_settings_of)  # type: ignore[assignment]
calls_of: Callable[[type[Frozen]], Mapping[str, Call]] = cache(_calls_of)  # type: ignore[assignment]
