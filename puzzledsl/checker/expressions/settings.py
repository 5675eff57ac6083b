"""The settings of a call (`gqa(kv_heads: 8)`) or of a body (`{ tokens = 1B }`), each read as its field of the IR says.

A misspelt name is reported and treated as the nearest known name, so that it causes no further diagnostics. A reader
that finds a mistake reports it, sets `failed` and returns a harmless value.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, TypeVar

from puzzledsl.base.diagnostics import Diagnostic, Fix, Label, Near, Span
from puzzledsl.base.phrases import listed
from puzzledsl.base.settings import REQUIRED, Call, Setting
from puzzledsl.base.suggest import closest
from puzzledsl.base.units import COUNT, format_quantity
from puzzledsl.checker.context import Context
from puzzledsl.checker.diagnostics import name_errors
from puzzledsl.checker.diagnostics import type_errors as types
from puzzledsl.checker.expressions.coercions import as_constant, as_whole, between
from puzzledsl.checker.expressions.values import (
    Boolean,
    Constructed,
    Located,
    Options,
    Poison,
    Ref,
    Scope,
    Symbol,
    Text,
    Value,
    article,
    describe,
)
from puzzledsl.checker.limits import MAX_COUNT
from puzzledsl.checker.names.missing_use import shipped_names
from puzzledsl.checker.names.unknown import unknown_name
from puzzledsl.checker.names.words import read_ref, read_word
from puzzledsl.language.calls import FORMER_SETTINGS
from puzzledsl.language.kinds import KINDS
from puzzledsl.syntax import tree

T = TypeVar("T")


@dataclass(slots=True, eq=False)
class Entry:
    """One setting as written."""

    expr: tree.Expr
    scope: Scope
    span: Span


@dataclass(slots=True, eq=False)
class Settings:
    """The settings of one call or body. `thing` names it in diagnostics: `` `gqa` ``, `` bld `pieces` ``.

    `table` holds all that can be written. Reading a name that it lacks is a KeyError: a fault of the lowering.
    """

    ctx: Context
    thing: str
    span: Span
    table: Mapping[str, Setting]
    entries: dict[str, Entry] = field(default_factory=dict)
    guessed: set[str] = field(default_factory=set)
    failed: bool = False
    quiet_about_missing: bool = False
    given: frozenset[str] = frozenset()  # all names that are written, right or wrong
    write: str = ""  # the help where something is missing
    refuse: Callable[[str, str, str], None] = field(init=False)
    """Reports an amount out of its range: the setting, the range, and what is written."""

    def __post_init__(self) -> None:
        self.refuse = self._out_of_range

    def known(self, key: str) -> Setting:
        """Return the table's entry of a setting; positional arguments beyond the named ones have numbers."""
        return _REST if key.isdigit() else self.table[key]

    def has(self, key: str) -> bool:
        """Return True if the setting is written."""
        self.known(key)
        return key in self.entries

    def entry(self, key: str) -> Entry:
        """Return a setting that is written, not yet evaluated."""
        self.known(key)
        return self.entries[key]

    def need_all(self, *fields: str) -> None:
        """Report the settings that must be written and are missing, without those of some fields."""
        needed = (
            key for key, known in self.table.items() if known.value is REQUIRED and known.name not in fields
        )
        self.need(*needed)

    def need(self, *keys: str, help: str = "") -> None:
        """Report those of `keys` that are missing."""
        missing = [key for key in keys if key not in self.entries]
        self.failed |= bool(missing)
        if missing and not self.quiet_about_missing:
            help = help or next((text for key in missing if (text := self.known(key).write)), self.write)
            what = listed([f"`{key}`" for key in missing])
            self.ctx.report(name_errors.MissingPart(self.span, thing=self.thing, what=what, help=help))

    def value(self, key: str) -> Value:
        """Return the value of a setting that is written."""
        entry = self.entry(key)
        value = self.ctx.value(entry.expr, entry.scope)
        self.failed |= isinstance(value, Poison)
        return value

    def place(self, key: str) -> Span:
        """Return the span of a setting's value; the span of the whole call or body if it is missing."""
        return self.entries[key].expr.span if self.has(key) else self.span

    def report(self, problem: Diagnostic) -> None:
        """Report a mistake in a setting."""
        self.ctx.report(problem)
        self.failed = True

    def options(self, key: str) -> list[Located]:
        """Return the options of `a | b`, or the single value; empty if there is a mistake."""
        value = self.value(key)
        return [] if isinstance(value, Poison) else located(value, self.place(key))

    # ------------------------------------------------------------ readers

    def read(self, key: str, default: Any = REQUIRED) -> Any:
        """Return the value of a setting, read as its field says. Unwritten or wrong: `default`, or the field's own."""
        known = self.known(key)
        found = self._read(key, known) if self.has(key) else None
        self.failed |= found is None and self.has(key)
        if found is not None:
            return found
        usual = known.value if default is REQUIRED else default
        if usual is not REQUIRED:
            return usual
        return () if known.many else _HARMLESS.get(known.type)

    def _read(self, key: str, known: Setting) -> Any:
        """Return the value of a setting that is written; None, reported, if it is wrong."""
        entry = self.entry(key)
        if known.calls:
            call = read_call(self.ctx, entry.expr, entry.scope, known)
            return None if call is None else lower_call(self.ctx, call, known.calls[call.name])
        if known.kinds:
            several = known.many or known.sums
            written = summands(entry.expr) if several else [entry.expr]
            found = [self._name(expr, entry.scope, known) for expr in written]
            return tuple(dict.fromkeys(filter(None, found))) if several else found[0]
        if known.words and known.type is not bool:
            return read_word(self.ctx, entry.expr, entry.scope, known.words, known.noun)
        if known.type is int and known.unit == COUNT:
            return self.whole(key, int(known.at_least or 0), int(known.at_most or MAX_COUNT))
        if known.type in (int, float, Fraction):
            amount = self._quantity(key, known)
            return None if amount is None else known.type(amount)
        if known.type is bool:
            value = self.value(key)
            if isinstance(value, Boolean):
                return value.value
            self._wrong(key, value, "`true` or `false`")
            return None
        if known.bare and isinstance(entry.expr, tree.Name) and not _means_text(entry.expr.text, entry.scope):
            return entry.expr.text
        return tuple(self.text(each) or "" for each in self._repeated(key)) if known.many else self.text(key)

    def symbol(self, key: str) -> Symbol | None:
        """Return the declaration that a setting names; None if it is not written or, reported, wrong."""
        if not self.has(key):
            return None
        entry = self.entry(key)
        found = read_ref(self.ctx, entry.expr, entry.scope, self.known(key).kinds)
        self.failed |= found is None
        return found

    def _name(self, expr: tree.Expr, scope: Scope, known: Setting) -> str | None:
        found = read_ref(self.ctx, expr, scope, known.kinds)
        if found is None:
            return None
        self.ctx.lower_later(found)
        return self.ctx.name_of(found)

    def whole(self, key: str, low: int, high: int) -> int | None:
        """Return a whole number within bounds; None, reported, if it is wrong."""
        return as_whole(self.ctx, self.value(key), self.place(key), f"`{key}`", low, high)

    def _quantity(self, key: str, known: Setting) -> Fraction | None:
        """Return a constant of one dimension within bounds, in base units; None, reported, if it is wrong."""
        found = as_constant(self.ctx, self.value(key), self.place(key), f"`{key}`", known.unit)
        if found is None:
            return None
        above, low, high = known.more_than, known.at_least, known.at_most
        if not (
            (above is not None and found.value <= above)
            or (low is not None and found.value < low)
            or (high is not None and found.value > high)
        ):
            return found.value
        ends = [end and format_quantity(end, known.unit) for end in (low, high)]
        condition = between(*ends)
        if above is not None:
            condition = f"more than {above}" + ("" if high is None else f" and {between(None, ends[1])}")
        self.refuse(key, condition, str(found))
        return None

    def _out_of_range(self, key: str, condition: str, got: str) -> None:
        """Report a number out of bounds. A plain number above 1 for a share was most likely meant as a percentage."""
        what, place, help, fixes = f"`{key}`", self.place(key), "", []
        if condition == between(0, 1) and re.fullmatch(r"[\d.]+", got):
            help = "it is a share, such as `5%`"
            if float(got) < 100:
                help, fixes = f"it is a share: write `{got}%`", [Fix.replace(place, f"{got}%", safe=False)]
        self.ctx.report(
            types.OutOfRange(place, what=what, condition=condition, got=got, help=help, fixes=fixes)
        )

    def text(self, key: str) -> str | None:
        """Return a non-empty string; None, reported, if it is wrong."""
        value = self.value(key)
        if isinstance(value, Text) and value.value:
            return value.value
        self._wrong(key, value, "a string with something in it" if isinstance(value, Text) else "a string")
        return None

    def _repeated(self, key: str) -> list[str]:
        """Return a setting and the numbered ones that repeat it."""
        return [key, *(each for each in self.entries if each.isdigit())]

    def _wrong(self, key: str, value: Value, wanted: str) -> None:
        if not isinstance(value, Poison):
            what, got = "each of them" if key.isdigit() else f"`{key}`", describe(value)
            self.ctx.report(types.WrongType(self.place(key), what=what, wanted=wanted, got=got))


_HARMLESS: Mapping[Any, Any] = {int: 0, float: 0.0, Fraction: Fraction(0), str: ""}
"""Values of settings that must be written and are not, or are wrong."""


def lower(settings: Settings, node: type[T], old: T | None = None, /, **given: Any) -> T:
    """Return the node of a body or a call: each setting read as its field says.

    `given`: fields that the caller has read. `old`: a node that has the values of what is not written.
    """
    if old is None:
        settings.need_all(*given)
    for key, known in settings.table.items():
        if known.name not in given:
            given[known.name] = settings.read(key, REQUIRED if old is None else getattr(old, known.name))
    return node(**given)


def lower_call(ctx: Context, call: Constructed, form: Call) -> Any:
    """Return the node of a call; None, reported, if it has mistakes."""
    settings = from_call(ctx, call, form)
    assert form.node is not None
    kind = {"kind": call.name} if "kind" in form.node.model_fields else {}
    node = lower(settings, form.node, **kind)
    return None if settings.failed else node


def summands(expr: tree.Expr) -> list[tree.Expr]:
    """`a`, `b` and `c` of `a + b + c`."""
    match expr:
        case tree.Binary(op="+", left=left, right=right):
            return [*summands(left), right]
        case _:
            return [expr]


def located(value: Value, span: Span) -> list[Located]:
    """Return the options of a choice, or the single value."""
    return list(value.options) if isinstance(value, Options) else [Located(value, span)]


def _means_text(name: str, scope: Scope) -> bool:
    """Return True for a `let` or `param`, and for a local name that holds a text."""
    symbol = scope.file.names.get(name)
    declared = isinstance(symbol, Symbol) and symbol.kind in ("let", "param")
    return declared or isinstance(scope.local(name), Text)


# ---------------------------------------------------------------- calls


def read_call(ctx: Context, expr: tree.Expr, scope: Scope, takes: Setting) -> Constructed | None:
    """Return a call that a setting takes, or a declaration that it can name. Else None, reported."""
    names, bases = tuple(takes.calls), takes.kinds
    word = expr.function if isinstance(expr, tree.Call) else expr
    arguments = expr.arguments if isinstance(expr, tree.Call) else ()
    if isinstance(word, tree.Name) and word.text in names and not _means_a_value(word.text, scope):
        return Constructed(word.text, arguments, scope, expr.span)
    if isinstance(word, tree.Name) and scope.local(word.text) is None and word.text not in scope.file.names:
        if scope.file.declares_unread(word.text):
            return None
        if bases and word.text in shipped_names():
            unknown_name(ctx, word, scope)
            return None
        declared = _declared(ctx, scope, bases)
        near = closest(word.text, (*names, *declared))
        listed = ", ".join(f"`{n}`" for n in (*names, *declared))
        help = f"write one of {listed}"
        ctx.report(types.UnknownWord(word.span, got=word.text, what=takes.noun, near=near, help=help))
        return Constructed(near, arguments, scope, expr.span) if near in names and near is not None else None
    return as_call(ctx, ctx.value(expr, scope), expr.span, takes)


def _means_a_value(name: str, scope: Scope) -> bool:
    """Return True for a `let`, `param` or `fn`: these hide a word of the language; other declarations do not."""
    symbol = scope.file.names.get(name)
    return scope.local(name) is not None or (
        isinstance(symbol, Symbol) and symbol.kind in ("let", "param", "fn")
    )


def as_call(ctx: Context, value: Value, span: Span, takes: Setting) -> Constructed | None:
    """Return a value that is a call that a setting takes, or a declaration that it can name, called or not."""
    match value:
        case Poison():
            return None
        case Constructed(base=None, name=name) if name in takes.calls:
            return value
        case Constructed(base=base) if base is not None and base.kind in takes.kinds:
            return value
        case Ref(symbol=symbol) if symbol.kind in takes.kinds:
            return Constructed(symbol.name, (), Scope(symbol.file), span, base=symbol)
    wanted = " or ".join(f"`{n}`" for n in takes.calls)
    help = "a declaration takes one" if isinstance(value, Options) else ""
    ctx.report(types.WrongType(span, what=f"the {takes.noun}", wanted=wanted, got=describe(value), help=help))
    return None


def _declared(ctx: Context, scope: Scope, kinds: tuple[str, ...]) -> list[str]:
    """Return the declarations of some kinds but the one that is being read, which cannot need itself."""
    symbols = ((n, s) for n, s in scope.file.names.items() if isinstance(s, Symbol) and s.kind in kinds)
    return [name for name, symbol in symbols if symbol not in ctx.busy]


# ---------------------------------------------------------------- collecting


_REST = Setting("One more of the last positional argument.")


def from_call(ctx: Context, call: Constructed, form: Call) -> Settings:
    """Collect the arguments of a call of this form. Positional ones beyond those with names become `0`, `1` and so on."""
    name = call.base.name if call.base else call.name
    damaged = ctx.file_of(call.span).is_damaged(call.span)
    given = frozenset(a.name.text for a in call.arguments if a.name is not None)
    found = Settings(
        ctx,
        f"`{name}`",
        call.span,
        form.arguments,
        quiet_about_missing=damaged,
        given=given,
        write=form.write,
    )
    known = tuple(form.arguments)
    positional = known[: form.positional]
    place = 0
    for argument in call.arguments:
        entry = Entry(argument.value, call.scope, argument.span)
        if argument.name is not None:
            put(found, argument.name.text, entry, argument.name.span, known)
            continue
        if place >= len(positional) and not form.rest:
            _too_many(ctx, name, positional, call, argument)
            found.failed = True
            break
        key = positional[place] if place < len(positional) else f"{place - len(positional)}"
        place += 1
        put(found, key, entry, argument.span, (*known, key))
    return found


def _too_many(
    ctx: Context, name: str, positional: Sequence[str], call: Constructed, argument: tree.Argument
) -> None:
    count = len(positional)
    takes = (
        "no argument without a name"
        if not count
        else f"{count} argument{'' if count == 1 else 's'} without a name"
    )
    bare = [a for a in call.arguments if a.name is None]
    help, fixes = "", []
    if name == "batch" and len(bare) == 3 and not any(isinstance(a.value, tree.Arrow) for a in bare):
        prompt, output = bare[1].span, bare[2].span
        comma = ctx.gap(prompt, output, ",")
        meant = f"{ctx.operand(prompt)} -> {ctx.operand(output)}"
        help = f"prompt and output tokens are joined by `->`: write `{name}({ctx.operand(bare[0].span)}, {meant})`"
        fixes = [] if comma is None else [Fix.replace(comma, " -> ", f"write `{meant}`")]
    ctx.report(
        name_errors.TooManyArguments(
            argument.span, name=name, takes=takes, got=len(bare), help=help, fixes=fixes
        )
    )


def put(
    found: Settings, key: str, entry: Entry, at: Span, known: Sequence[str], sections: Sequence[str] = ()
) -> None:
    """Enter one setting. Report an unknown name and use its nearest; report a duplicate."""
    if key not in known:
        near = report_unknown_key(found, key, at, (*known, *sections))
        if near is None or near in found.entries or near not in known:
            return
        found.guessed.add(near)
        key = near
    if key in found.entries:
        if key in found.guessed:
            found.guessed.discard(key)
            found.entries[key] = entry
            return
        label = Label(found.entries[key].span, "first set here")
        found.ctx.report(name_errors.DuplicateKey(at, name=key, secondary=[label]))
        return
    found.entries[key] = entry


def report_unknown_key(found: Settings, key: str, at: Span, known: Sequence[str]) -> str | None:
    """Report an unknown setting and return the nearest known name, if any."""
    if not key:
        return None  # a name the parser found missing
    if former := FORMER_SETTINGS.get((found.thing, key)):
        found.ctx.report(name_errors.UnknownKey(at, thing=found.thing, name=key, help=former))
        return None
    meant = next((name for name, setting in found.table.items() if key in setting.elsewhere), None)
    near = closest(key, known) if meant is None else Near(meant, alone=True)
    listed = ", ".join(f"`{k}`" for k in known)
    help = f"it has {listed}" if known else "it has no settings"
    if near in found.given:
        help, near = f"did you mean `{near}`? It is set already: keep one of them", None
    owners = [kind for kind, form in KINDS.items() if key in form.settings or key in form.sections]
    if len(owners) == 1:
        help += (
            f"; `{key}{' { … }' if key in KINDS[owners[0]].sections else ''}` belongs to {article(owners[0])}"
        )
    for name, setting in found.table.items():
        for word, call in setting.calls.items():
            if key in call.arguments:
                help = f"it belongs to `{name}`: write `{name} = {word}(…, {key}: …)`"
    found.ctx.report(name_errors.UnknownKey(at, thing=found.thing, name=key, near=near, help=help))
    return near
