"""Typed readers for the settings of a call (`gqa(kv_heads: 8)`) or of a body (`{ tokens = 1B }`).

A misspelt name is reported and treated as the nearest known name, so that it causes no further diagnostics. A reader
that finds a mistake reports it, sets `failed` and returns a harmless value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from puzzledsl.base.diagnostics import Fix, Label, Near, Span
from puzzledsl.base.phrases import listed
from puzzledsl.base.suggest import closest
from puzzledsl.base.units import COUNT, Dimension, format_quantity
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
    Scope,
    Symbol,
    Text,
    Value,
    article,
    describe,
)
from puzzledsl.checker.limits import MAX_COUNT
from puzzledsl.checker.names.words import read_ref, read_word
from puzzledsl.language.calls import FORMER_SETTINGS
from puzzledsl.language.kinds import KINDS
from puzzledsl.language.model import Call, Setting
from puzzledsl.syntax import tree


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

    def need(self, *keys: str, help: str = "") -> None:
        """Report those of `keys` that are missing."""
        missing = [key for key in keys if key not in self.entries]
        self.failed |= bool(missing)
        if missing and not self.quiet_about_missing:
            self.ctx.report(
                name_errors.MissingPart(
                    self.span, thing=self.thing, what=listed([f"`{key}`" for key in missing]), help=help
                )
            )

    def value(self, key: str) -> Value:
        """Return the value of a setting that is written."""
        entry = self.entry(key)
        value = self.ctx.value(entry.expr, entry.scope)
        self.failed |= isinstance(value, Poison)
        return value

    def place(self, key: str) -> Span:
        """Return the span of a setting's value; the span of the whole call or body if it is missing."""
        return self.entries[key].expr.span if self.has(key) else self.span

    # ------------------------------------------------------------ readers

    def whole(self, key: str, default: int, low: int = 0, high: int = MAX_COUNT) -> int:
        """Return a whole number within bounds."""
        if not self.has(key):
            return default
        found = as_whole(self.ctx, self.value(key), self.place(key), f"`{key}`", low, high)
        self.failed |= found is None
        return default if found is None else found

    def quantity(
        self,
        key: str,
        dimension: Dimension,
        default: Fraction,
        low: Fraction | None = None,
        high: Fraction | None = None,
    ) -> Fraction:
        """Return a constant of one dimension within bounds, in base units."""
        if not self.has(key):
            return default
        found = as_constant(self.ctx, self.value(key), self.place(key), f"`{key}`", dimension)
        if found is not None and (
            (low is not None and found.value < low) or (high is not None and found.value > high)
        ):
            ends = [None if end is None else format_quantity(end, dimension) for end in (low, high)]
            condition = between(*ends)
            what, got = f"`{key}`", str(found)
            self.ctx.report(types.OutOfRange(self.place(key), what=what, condition=condition, got=got))
            found = None
        self.failed |= found is None
        return default if found is None else found.value

    def ratio(self, key: str, default: Fraction) -> Fraction:
        """Return a share from 0 to 1."""
        return self.quantity(key, COUNT, default, Fraction(0), Fraction(1))

    def flag(self, key: str, default: bool = False) -> bool:
        """Return `true` or `false`."""
        if not self.has(key):
            return default
        value = self.value(key)
        if isinstance(value, Boolean):
            return value.value
        self._wrong(key, value, "`true` or `false`")
        return default

    def text(self, key: str, default: str = "") -> str:
        """Return a non-empty string."""
        if not self.has(key):
            return default
        value = self.value(key)
        if isinstance(value, Text) and value.value:
            return value.value
        self._wrong(
            key, value, "a string" if not isinstance(value, Text) else "a string with something in it"
        )
        return default

    def column(self, key: str, default: str) -> str:
        """Return a string, or a bare word that no `let` or `param` defines."""
        entry = self.entry(key) if self.has(key) else None
        if (
            entry
            and isinstance(entry.expr, tree.Name)
            and not isinstance(entry.scope.local(entry.expr.text), Text)
        ):
            symbol = entry.scope.file.names.get(entry.expr.text)
            if not (isinstance(symbol, Symbol) and symbol.kind in ("let", "param")):
                return entry.expr.text
        return self.text(key, default)

    def word(self, key: str, default: str) -> str:
        """Return one of a closed list of words. A word of the list means itself even if a declaration has this name."""
        if not self.has(key):
            return default
        entry, known = self.entry(key), self.known(key)
        found = read_word(self.ctx, entry.expr, entry.scope, known.words, known.noun)
        self.failed |= found is None
        return default if found is None else found

    def ref(self, key: str) -> Symbol | None:
        """Return the declaration that a setting names; None if the setting is missing or wrong."""
        if not self.has(key):
            return None
        entry = self.entry(key)
        found = read_ref(self.ctx, entry.expr, entry.scope, self.known(key).kinds)
        self.failed |= found is None
        return found

    def options(self, key: str) -> list[Located]:
        """Return the options of `a | b`, or the single value; empty if there is a mistake."""
        value = self.value(key)
        if isinstance(value, Poison):
            return []
        return list(value.options) if isinstance(value, Options) else [Located(value, self.place(key))]

    def _wrong(self, key: str, value: Value, wanted: str) -> None:
        self.failed = True
        if not isinstance(value, Poison):
            what, got = "each of them" if key.isdigit() else f"`{key}`", describe(value)
            self.ctx.report(types.WrongType(self.place(key), what=what, wanted=wanted, got=got))


# ---------------------------------------------------------------- collecting


_REST = Setting("One more of the last positional argument.")


def from_call(ctx: Context, call: Constructed, form: Call) -> Settings:
    """Collect the arguments of a call of this form. Positional ones beyond those with names become `0`, `1` and so on."""
    name = call.base.name if call.base else call.name
    damaged = ctx.file_of(call.span).is_damaged(call.span)
    given = frozenset(a.name.text for a in call.arguments if a.name is not None)
    found = Settings(ctx, f"`{name}`", call.span, form.arguments, quiet_about_missing=damaged, given=given)
    known, positional = form.names, form.names[: form.positional]
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
    found.ctx.report(name_errors.UnknownKey(at, thing=found.thing, name=key, near=near, help=help))
    return near
