"""The settings of a call (`gqa(kv_heads: 8)`) or of a body (`{ tokens = 1B }`), each read as its field of the IR says.

A misspelt name is reported and treated as the nearest known name, so that it causes no further diagnostics. Where a value
has a mistake, `Settings.read` reports it, sets `failed` and returns a harmless value.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, TypeVar

from puzzledsl.alternatives.support import MAX_COUNT
from puzzledsl.base.diagnostics import Args, Diagnostic, Fix, Label, Near, Span
from puzzledsl.base.phrases import closest, listed
from puzzledsl.base.settings import REQUIRED, Call, Setting
from puzzledsl.base.units import COUNT, format_quantity
from puzzledsl.checker import errors
from puzzledsl.checker.context import Context, Refused
from puzzledsl.checker.expressions import values
from puzzledsl.checker.expressions.numbers import as_constant, as_whole, between
from puzzledsl.checker.expressions.values import Scope, Symbol, Value
from puzzledsl.checker.names.words import of_the_library, read_ref, read_word, shipped_names, unknown_name
from puzzledsl.language.kinds import FORMER, FORMER_FIGURES, KINDS
from puzzledsl.language.words import KEYWORDS
from puzzledsl.syntax import tree

T = TypeVar("T")
_REST = Setting("One more of the last positional argument.")
_HARMLESS: Mapping[Any, Any] = {int: 0, float: 0.0, Fraction: Fraction(0), str: ""}
"""Type of a required setting -> its value where it is missing or wrong, so that the others are still read."""


@dataclass(slots=True, eq=False)
class Entry:
    """One setting as written."""

    expr: tree.Expr
    scope: Scope
    span: Span


@dataclass(slots=True, eq=False)
class Settings:
    """The settings of one call or body. `table` has all that can be written, `entries` what is; `thing` names the owner."""

    ctx: Context
    thing: str
    span: Span
    table: Mapping[str, Setting]
    entries: dict[str, Entry] = field(default_factory=dict)
    guessed: set[str] = field(default_factory=set)  # settings that a misspelt name stands for
    failed: bool = False
    quiet_about_missing: bool = False
    given: frozenset[str] = frozenset()  # all names that are written, right or wrong
    write: str = ""  # the help where something is missing

    def known(self, key: str) -> Setting:
        """Return the table's entry of a setting. Repeats of the last positional argument have numbers as keys."""
        return _REST if key.isdigit() else self.table[key]

    def has(self, key: str) -> bool:
        """Return True if the setting is written. Raise KeyError for one that is not in the table."""
        self.known(key)
        return key in self.entries

    def need_all(self, *fields: str) -> None:
        """Report the required settings that are missing, except those of the IR fields `fields`."""
        required = [key for key, known in self.table.items() if known.value is REQUIRED]
        self.need(*(key for key in required if self.table[key].name not in fields))

    def need(self, *keys: str, help: str = "") -> None:
        """Report those of `keys` that are missing."""
        missing = [key for key in keys if key not in self.entries]
        self.failed |= bool(missing)
        if missing and not self.quiet_about_missing:
            help = help or next((text for key in missing if (text := self.known(key).write)), self.write)
            docs = ((key, self.known(key).doc) for key in missing)
            help = help or "; ".join(
                f"`{k}`: {doc[:1].lower()}{doc[1:].removesuffix('.')}" for k, doc in docs
            )
            what = listed([f"`{key}`" for key in missing])
            self.ctx.report(errors.MissingPart(self.span, thing=self.thing, what=what, help=help))

    def value(self, key: str) -> Value:
        """Return the value of a written setting. Raise Refused if it has a mistake."""
        entry = self.entries[key]
        return self.ctx.sound(entry.expr, entry.scope)

    def place(self, key: str) -> Span:
        """Return the span of a setting's value; the span of the whole call or body if it is missing."""
        return self.entries[key].expr.span if self.has(key) else self.span

    def report(self, problem: Diagnostic) -> None:
        """Report a mistake in a setting and set `failed`."""
        self.ctx.report(problem)
        self.failed = True

    def attempt(self, read: Callable[..., T], *arguments: object) -> T | None:
        """Return `read(*arguments)`; where that raises Refused, set `failed` and return None."""
        found = self.ctx.attempt(read, *arguments)
        self.failed |= found is None
        return found

    def sound(self, node: T) -> T:
        """Return `node`, which is made of the settings. Raise Refused if they have mistakes."""
        if self.failed:
            raise Refused
        return node

    def call(self, key: str) -> Value:
        """Return what is written as a call that the setting takes; refuse another call, and return any other value as it is."""
        expr, scope, takes = self.entries[key].expr, self.entries[key].scope, self.known(key)
        if isinstance(expr, tree.Call) or (isinstance(expr, tree.Name) and expr.text in takes.calls):
            return read_call(self.ctx, expr, scope, takes)
        value = self.value(key)
        return as_call(self.ctx, value, expr.span, takes) if isinstance(value, values.Constructed) else value

    def read(self, key: str, default: Any = REQUIRED, by: Callable[[Settings], Any] | None = None) -> Any:
        """Return a setting, read by `by` or as its field says. If missing or wrong: `default`, the field's or a harmless one."""
        known = self.known(key)
        if key in self.entries:
            try:
                return self._read(key, known) if by is None else by(self)
            except Refused:
                self.failed = True
        usual = known.value if default is REQUIRED else default
        if usual is not REQUIRED:
            return usual
        return () if known.many else _HARMLESS.get(known.type)

    def _read(self, key: str, known: Setting) -> Any:
        """Return a written setting as its IR field holds it. Raise Refused if it has a mistake."""
        entry, what = self.entries[key], f"`{key}`"
        if known.calls:
            call = read_call(self.ctx, entry.expr, entry.scope, known)
            return lower_call(self.ctx, call, known.calls[call.name])
        if known.kinds:
            if not (known.many or known.sums):
                return self.ctx.name_of(read_ref(self.ctx, entry.expr, entry.scope, known.kinds))
            each = [(self.ctx, expr, entry.scope, known.kinds) for expr in summands(entry.expr)]
            found = filter(None, [self.ctx.attempt(read_ref, *named) for named in each])
            return tuple(dict.fromkeys(map(self.ctx.name_of, found)))
        if known.words and known.type is not bool:
            return read_word(self.ctx, entry.expr, entry.scope, known.words, known.noun)
        if known.type is int and known.unit == COUNT:
            return self.count(key, int(known.at_least or 0), int(known.at_most or MAX_COUNT))
        if known.type in (int, float, Fraction):
            number = as_constant(self.ctx, self.value(key), self.place(key), what, known.unit)
            above, low, high = known.more_than, known.at_least, known.at_most
            below = (above is not None and number.value <= above) or (low is not None and number.value < low)
            if below or (high is not None and number.value > high):
                ends = [end and format_quantity(end, known.unit) for end in (low, high)]
                more = "" if high is None else f" and {between(None, ends[1])}"
                condition = between(*ends) if above is None else f"more than {above}{more}"
                raise self.beyond(key, condition, str(number))
            return known.type(number.value)
        if known.type is bool:
            value = self.value(key)
            if not isinstance(value, values.Boolean):
                raise self.ctx.wrong(self.place(key), what, "`true` or `false`", value)
            return value.value
        if known.bare and isinstance(entry.expr, tree.Name):
            name, local = entry.expr.text, entry.scope.local(entry.expr.text)
            symbol = entry.scope.file.names.get(name)
            means_text = isinstance(symbol, Symbol) and symbol.kind in ("let", "param")
            if not means_text and not isinstance(local, values.Text):
                return name
        if not known.many:
            return self.text(key)
        repeated = [key, *(each for each in self.entries if each.isdigit())]
        return tuple(self.attempt(self.text, each) or "" for each in repeated)

    def symbol(self, key: str) -> Symbol | None:
        """Return the declaration that a setting names; None if it is not written or, reported, wrong."""
        if not self.has(key):
            return None
        entry = self.entries[key]
        return self.attempt(read_ref, self.ctx, entry.expr, entry.scope, self.known(key).kinds)

    def count(self, key: str, low: int, high: int) -> int:
        """Return a setting that is a whole number from `low` to `high`. Refuse any other."""
        return as_whole(self.ctx, self.value(key), self.place(key), f"`{key}`", low, high)

    def beyond(self, key: str, condition: str, got: str) -> Refused:
        """Report that a setting's number must be `condition`; return a Refused to raise. For a share, suggest a percentage."""
        place, help, fixes = self.place(key), "", []
        if condition == between(0, 1) and re.fullmatch(r"[\d.]+", got):
            help = f"it is a share: write `{got}%`" if float(got) < 100 else "it is a share, such as `5%`"
            fixes = [Fix.replace(place, f"{got}%", safe=False)] if float(got) < 100 else []
        return self.ctx.beyond(place, f"`{key}`", condition, got, help, fixes)

    def text(self, key: str) -> str:
        """Return a setting that is a non-empty string. Refuse any other."""
        value = self.value(key)
        if not isinstance(value, values.Text) or not value.value:
            wanted = "a string with something in it" if isinstance(value, values.Text) else "a string"
            what = "each of them" if key.isdigit() else f"`{key}`"
            raise self.ctx.wrong(self.place(key), what, wanted, value)
        return value.value


def lower(settings: Settings, node: type[T], old: T | None = None, /, **given: Any) -> T:
    """Return a `node`: the fields `given`, the others read from the settings. Unwritten ones are as in `old`, or the default."""
    if old is None:
        settings.need_all(*given)
    for key, known in settings.table.items():
        if known.name not in given:
            given[known.name] = settings.read(key, REQUIRED if old is None else getattr(old, known.name))
    return node(**given)


def lower_call(ctx: Context, call: values.Constructed, form: Call, **given: Any) -> Any:
    """Return the node of a call that has this form; `given` are fields made elsewhere. Refuse a call with mistakes."""
    settings = from_call(ctx, call, form)
    assert form.node is not None
    if "kind" in form.node.model_fields:
        given["kind"] = call.name
    return settings.sound(lower(settings, form.node, **given))


def summands(expr: tree.Expr) -> list[tree.Expr]:
    """Return `a`, `b` and `c` of `a + b + c`; an expression that is no sum is its only part."""
    if isinstance(expr, tree.Binary) and expr.op == "+":
        return [*summands(expr.left), *summands(expr.right)]
    return [expr]


def read_call(ctx: Context, expr: tree.Expr, scope: Scope, takes: Setting) -> values.Constructed:
    """Return `expr` as a call that `takes` accepts (if misspelt, the nearest) or a declaration it can name. Refuse others."""
    word = expr.function if isinstance(expr, tree.Call) else expr
    arguments = expr.arguments if isinstance(expr, tree.Call) else ()
    if not isinstance(word, tree.Name):
        return as_call(ctx, ctx.value(expr, scope), expr.span, takes)
    symbol, name = scope.file.names.get(word.text), word.text
    # a `let`, `param` or `fn` hides a word of the language; other declarations do not
    hides = isinstance(symbol, Symbol) and symbol.kind in ("let", "param", "fn")
    local = scope.local(name) is not None
    if name in takes.calls and not local and not hides:
        return values.Constructed(name, arguments, scope, expr.span)
    if local or name in scope.file.names:
        return as_call(ctx, ctx.value(expr, scope), expr.span, takes)
    if scope.file.declares_unread(name):
        raise Refused
    if takes.kinds and name in shipped_names():
        unknown_name(ctx, word, scope)
        raise Refused
    # all but the declaration that is being read, which cannot need itself
    declared = [s for s in scope.file.symbols(*takes.kinds) if s not in ctx.busy] if takes.kinds else []
    known = (*takes.calls, *(n for n, s in scope.file.names.items() if s in declared))
    former = FORMER.get(name) or FORMER_FIGURES.get(name)
    near = None if former else closest(name, known)
    help = former or f"write one of {', '.join(f'`{n}`' for n in known)}"
    if not former and near is None and takes.kinds:
        help = of_the_library(name, takes.kinds) or help
    ctx.report(errors.UnknownWord(word.span, got=name, what=takes.noun, near=near, help=help))
    if near is None or near not in takes.calls:
        raise Refused
    return values.Constructed(near, arguments, scope, expr.span)


def as_call(ctx: Context, value: Value, span: Span, takes: Setting) -> values.Constructed:
    """Return a value as a call that the setting `takes` accepts, or as a declaration that it can name. Refuse other values."""
    match value:
        case values.Constructed(base=None, name=name) if name in takes.calls:
            return value
        case values.Constructed(base=base) if base is not None and base.kind in takes.kinds:
            return value
        case values.Ref(symbol=symbol) if symbol.kind in takes.kinds:
            return values.Constructed(symbol.name, (), Scope(symbol.file), span, base=symbol)
    help = "a declaration takes one" if isinstance(value, values.Options) else ""
    raise ctx.wrong(span, f"the {takes.noun}", " or ".join(f"`{n}`" for n in takes.calls), value, help)


def from_call(
    ctx: Context, call: values.Constructed, form: Call, into: Callable[..., Settings] = Settings
) -> Settings:
    """Return the arguments of a call of this form, as an `into`. Repeats of the last positional one are `0`, `1` and so on."""
    name = call.base.name if call.base else call.name
    found = into(ctx, f"`{name}`", call.span, form.arguments, write=form.write)
    found.quiet_about_missing = ctx.file_of(call.span).is_damaged(call.span)
    found.given = frozenset(a.name.text for a in call.arguments if a.name is not None)
    known = tuple(form.arguments)
    positional, place = known[: form.positional], 0
    for argument in call.arguments:
        entry = Entry(argument.value, call.scope, argument.span)
        if argument.name is not None:
            put(found, argument.name, entry, known)
            continue
        if place >= len(positional) and not form.rest:
            takes = f"{place or 'no'} argument{'' if place < 2 else 's'} without a name"
            bare = sum(a.name is None for a in call.arguments)
            said: Args = {"name": name, "takes": takes, "got": bare, "help": form.write}
            found.report(errors.TooManyArguments(argument.span, **said))
            break
        key = positional[place] if place < len(positional) else f"{place - len(positional)}"
        place += 1
        put(found, tree.Name(span=argument.span, text=key), entry, (*known, key))
    return found


def put(
    found: Settings, name: tree.Name, entry: Entry, known: Sequence[str], more: Iterable[str] = ()
) -> None:
    """Enter one setting. Report a duplicate. Report an unknown name and use the nearest in `known`; `more` is only suggested."""
    key = name.text
    if key not in known:
        near = report_unknown_key(found, name, (*known, *more))
        if near is None or near in found.entries or near not in known:
            return
        found.guessed.add(near)
        key = near
    elif key in found.guessed:
        found.guessed.discard(key)
    elif key in found.entries:
        label = Label(found.entries[key].span, "first set here")
        found.ctx.report(errors.DuplicateKey(name.span, name=key, secondary=[label]))
        return
    found.entries[key] = entry


def report_unknown_key(found: Settings, name: tree.Name, known: Sequence[str]) -> str | None:
    """Report an unknown setting and return the nearest known name, if any."""
    key = name.text
    said: Args = {"thing": found.thing, "name": key}
    if not key:
        return None  # a name the parser found missing
    if former := FORMER.get(key):
        found.ctx.report(errors.UnknownKey(name.span, help=former, **said))
        return None
    meant = next((name for name, setting in found.table.items() if key in setting.elsewhere), None)
    near = closest(key, known) if meant is None else Near(meant, alone=True)
    help = f"it has {', '.join(f'`{k}`' for k in known)}" if known else "it has no settings"
    if near in found.given:
        help, near = f"did you mean `{near}`? It is set already: keep one of them", None
    elif near in KEYWORDS:  # which begins a statement without `=`
        help, near = f"did you mean `{near}`?", None
    owners = [kind for kind, form in KINDS.items() if key in form.settings or key in form.sections]
    if len(owners) == 1:
        braces = " { … }" if key in KINDS[owners[0]].sections else ""
        help += f"; `{key}{braces}` belongs to {values.article(owners[0])}"
    for setting, takes in found.table.items():
        for word, call in takes.calls.items():
            if key in call.arguments:
                help = f"it belongs to `{setting}`: write `{setting} = {word}(…, {key}: …)`"
    found.ctx.report(errors.UnknownKey(name.span, near=near, help=help, **said))
    return near
