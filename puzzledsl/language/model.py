"""Types of the tables in this folder. A table states a fact once; the checker, editors and docs/language.md read it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from puzzledsl.base.units import Dimension


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting of a body, or one argument of a call.

    `words` mean themselves even if a declaration has the same name; `calls` do unless a `let`, `param` or `fn` has
    it. `kinds` are the declarations that it can name. `noun` names its value in diagnostics. `default` is Markdown.
    """

    doc: str
    words: tuple[str, ...] = ()
    calls: Mapping[str, Call] = field(default_factory=dict)
    kinds: tuple[str, ...] = ()
    noun: str = ""
    default: str = ""
    bare: bool = False  # accepts any word that no `let` or `param` declares
    sums: bool = False  # its words are joined by `+` and `*`
    rare: bool = False  # completion does not offer it
    in_patterns: bool = True  # a pattern can test it: `gqa(kv_heads: >= 4)`
    elsewhere: tuple[str, ...] = ()  # its names in other tools, which a help translates


@dataclass(frozen=True, slots=True)
class Call:
    """A constructor, such as `gqa(kv_heads: 8)`. Its first `positional` arguments can be given without names."""

    doc: str
    arguments: Mapping[str, Setting] = field(default_factory=dict)
    positional: int = 0
    rest: bool = False  # the last positional argument may be repeated
    named_by: tuple[str, ...] = ()  # its arguments have the names of declarations of these kinds

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its arguments."""
        return tuple(self.arguments)

    def argument(self, name: str | None, place: int) -> Setting | None:
        """Return the argument called `name`, or the one at index `place` given without a name."""
        if self.named_by:
            return Setting("Its weight.") if name is not None else Setting("", kinds=self.named_by)
        if name is not None:
            return self.arguments.get(name)
        if place < self.positional or (self.rest and self.positional):
            return self.arguments[self.names[min(place, self.positional - 1)]]
        return None


@dataclass(frozen=True, slots=True)
class Section:
    """A named group of settings in a body: `peak { bf16 = 989TFLOP/s }`."""

    doc: str
    settings: Mapping[str, Setting]


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of declaration. `form` is its syntax; `plural` names its dictionary in the IR's program.

    `value` is what stands right of `=`; `statements` are the keywords that its body can contain.
    """

    doc: str
    form: str
    plural: str
    preposition: str = ""
    targets: tuple[str, ...] = ()
    value: Setting | None = None
    settings: Mapping[str, Setting] = field(default_factory=dict)
    sections: Mapping[str, Section] = field(default_factory=dict)
    statements: tuple[str, ...] = ("let", "assert")
    has_body: bool = True
    sees_space: bool = False  # its expressions see `layers`, `attention`, `params` …
    edits_layers: bool = False  # its body has overrides: `layers[2..9].attention -= noop`

    def table(self, section: str = "") -> Mapping[str, Setting]:
        """Return the settings of its body, or of a section there; none of a section that it lacks."""
        if not section:
            return self.settings
        return self.sections[section].settings if section in self.sections else {}


@dataclass(frozen=True, slots=True)
class Measure:
    """An amount with a name: a metric of a scenario or the type of a parameter. Text and truth have no dimension."""

    doc: str
    dimension: Dimension | None = None
