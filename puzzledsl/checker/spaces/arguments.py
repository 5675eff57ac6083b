"""Arguments of an alternative's constructor, `gqa(kv_heads: 4 | 2)`, and patterns that match it: `gqa(kv_heads: >= 2)`.

`gqa`, `mlp` and `moe` match the parent's own sub-block too, by its figures. A percentage is compared with the width as it was
asked for, before rounding: `mlp(width: >= 20%)` keeps what `mlp(width: 20%, round: 256)` made. A pattern without `dtype`
matches every storage type, and one without `kv_cache` every type of a KV cache.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from math import floor
from typing import TypeVar, cast

from puzzledsl.alternatives.alternative import UNCAPPED, Alternative, Site, SubBlock
from puzzledsl.alternatives.precision import FULL
from puzzledsl.alternatives.shape import Shape
from puzzledsl.alternatives.support import MAX_COUNT
from puzzledsl.base.diagnostics import Args, Diagnostic, Fix, Span
from puzzledsl.base.phrases import closest
from puzzledsl.base.units import COUNT, Quantity
from puzzledsl.checker import errors
from puzzledsl.checker.context import MAX_OPTIONS, Context, Refused
from puzzledsl.checker.expressions.layer_tables import holds
from puzzledsl.checker.expressions.numbers import as_constant, as_whole, refuse_list
from puzzledsl.checker.expressions.settings import Settings
from puzzledsl.checker.expressions.values import Located, Names, Scope, SpaceInfo, Text, located
from puzzledsl.checker.names.words import read_word
from puzzledsl.ir.nodes import Rounding
from puzzledsl.language.kinds import ALTERNATIVES, STORAGE, pattern_fields
from puzzledsl.syntax import tree

T = TypeVar("T")
V = TypeVar("V")
Check = Callable[[int, Span], Diagnostic | None] | None
End = int | None


@dataclass(slots=True, eq=False)
class CallArguments(Settings):
    """Arguments of one call, as alternatives read them for layers of `shape`. Widths and roundings are recorded in `info`."""

    info: SpaceInfo = field(kw_only=True)
    shape: Shape = field(kw_only=True)
    invalid: set[str] = field(default_factory=set)

    def is_valid(self, key: str) -> bool:
        """Return False once a mistake was found in this argument."""
        return key not in self.invalid

    def refuse(self, key: str, problem: Diagnostic) -> None:
        """Report a mistake in an argument, which is then not valid."""
        self.report(problem)
        self.invalid.add(key)

    def affords(self, count: int) -> bool:
        """Return True if a choice may have `count` alternatives; else report it and return False."""
        if count > MAX_OPTIONS:
            self.failed = True
            self.ctx.too_much(self.span, "this choice", f"{MAX_OPTIONS} alternatives")
        return count <= MAX_OPTIONS

    def _each(self, key: str, options: Iterable[V], read: Callable[[V], T]) -> list[T]:
        """Return what `read` makes of each option, without those that it refuses."""
        found = [self.ctx.attempt(read, option) for option in options]
        if None in found:
            self.failed = True
            self.invalid.add(key)
        return [each for each in found if each is not None]

    def _options(self, key: str) -> list[Located]:
        """Return the options of an argument `a | b`. A word such as `full` is a Text. Empty if the argument is not written."""
        found: list[Located] = []
        for expr in options_of(self.entries[key].expr) if self.has(key) else ():
            if isinstance(expr, tree.Name) and expr.text in self.known(key).words:
                found.append(Located(Text(expr.text), expr.span))
            elif (value := self.attempt(self.ctx.sound, expr, self.entries[key].scope)) is None:
                self.invalid.add(key)
            else:
                found += located(value, expr.span)
        return found

    def whole(self, key: str, default: int, low: int = 0, high: int = MAX_COUNT) -> int:
        """Return an argument that is a whole number from `low` to `high`; `default` if it is not written or wrong."""
        return cast(int, self.read(key, default, lambda _: self.count(key, low, high)))

    def wholes(
        self,
        key: str,
        low: int = 1,
        high: End = None,
        check: Check = None,
        help: str = "",
        absent: End = None,
    ) -> list[int]:
        """Return the whole numbers of `a | b` in bounds that pass `check`, 0 for a word (`full`); `[absent]` if not written."""
        if absent is not None and not self.has(key):
            return [absent]

        def read(option: Located) -> int:
            if isinstance(option.value, Text) and option.value.value in self.known(key).words:
                return 0
            refuse_list(self.ctx, option.value, option.span, f"`{key}`")
            number = as_whole(self.ctx, option.value, option.span, f"`{key}`", low, high, help)
            if check is not None and (problem := check(number, option.span)) is not None:
                raise self.ctx.refuse(problem)
            return number

        return self._each(key, self._options(key), read)

    def types(self, key: str) -> list[str | None]:
        """Return the types of `dtype: q8_0 | q4_0`, or of `kv_cache`; None stands for `full`."""
        entry, known = self.entries[key], self.known(key)
        read = partial(read_word, self.ctx, scope=entry.scope, words=known.words, what=known.noun)
        return [None if word == FULL else word for word in self._each(key, options_of(entry.expr), read)]

    def widths(self, key: str, multiple: int, whole: int) -> list[int]:
        """Return widths in channels of `25% | 4096`, rounded to multiples of `multiple`; none after a mistake. `whole`: 100 %."""
        options = [] if self.failed else self._options(key)
        return self._each(key, options, lambda option: self._width(option, multiple, whole))

    def _width(self, option: Located, multiple: int, whole: int) -> int:
        """Return the channels that one width denotes, rounded to the nearest multiple (ties up); `whole` stays as it is."""
        refuse_list(self.ctx, option.value, option.span, "`width`")
        number = as_constant(self.ctx, option.value, option.span, "`width`")
        exact = number.value * whole if number.form == "percent" else number.value
        width = int(exact) if exact == whole else floor(exact / multiple + Fraction(1, 2)) * multiple
        if 0 < exact < 1 and number.form == "plain":  # `0.75` is less than a channel; `75%` was meant
            share, got = str(Quantity(exact, COUNT, "percent")), self.ctx.source(option.span)
            fixes = [Fix.replace(option.span, share)] if re.fullmatch(r"[\d.]+", got) else []
            help = f"a share of the parent's width is a percentage: write `{share}`"
            condition = "a whole number of channels, or a percentage"
            raise self.ctx.beyond(option.span, "`width`", condition, got, help, fixes)
        if exact <= 0 or exact > whole or width > whole or width < 1:
            rounded = "" if exact <= 0 or exact > whole else f" when rounded to a multiple of {multiple}"
            condition = f"from 1 to the parent's {whole} channels{rounded}"
            help = "write `noop` to leave the FFN out" if exact <= 0 else ""
            raise self.ctx.beyond(option.span, "`width`", condition, self.ctx.source(option.span), help)
        self.info.asked.setdefault((whole, width), set()).add(exact)
        if width != exact:
            where = self.ctx.where(option.span)
            self.info.roundings.append(Rounding(asked=where.text, exact=exact, width=width, where=where))
        return width


def options_of(expr: tree.Expr) -> tuple[tree.Expr, ...]:
    """Return the options of `a | b`; an expression that is no choice is its only option."""
    return expr.options if isinstance(expr, tree.Choice) else (expr,)


Pattern = tree.Pattern | tree.PatternChoice
Predicate = Callable[[Alternative, Shape], bool]
"""A test of an alternative in a layer of a shape."""


def predicate(ctx: Context, pattern: Pattern, scope: Scope, info: SpaceInfo, sub_block: Site) -> Predicate:
    """Return a pattern as a test of the alternatives of a sub-block or an end. Refuse a pattern with mistakes."""
    if isinstance(pattern, tree.PatternChoice):
        options = ctx.all(predicate, pattern.options, scope, info, sub_block)
        return lambda alternative, own: any(test(alternative, own) for test in options)
    name = pattern.name.text
    if name not in ALTERNATIVES[sub_block]:
        report_unknown(ctx, pattern.name, sub_block)
        raise Refused
    tests = ctx.all(_field, pattern.fields, name, scope, info, pattern_fields(ALTERNATIVES[sub_block][name]))
    return lambda each, own: each.answers_to(name, own) and all(test(each, own) for test in tests)


def matching(
    ctx: Context, pattern: Pattern, scope: Scope, info: SpaceInfo, site: SubBlock, layers: tuple[int, ...]
) -> tuple[Names, Names]:
    """Return layer -> names that match, and layer -> the others, of all that the ones of its kind among `layers` may choose."""
    test = predicate(ctx, pattern, scope, info, site)
    found: tuple[Names, Names] = {}, {}
    wanted = set(layers)
    for own, indices in info.shape.kinds_of(site):
        here = tuple(i for i in indices if i in wanted)
        known = [(a.name, test(a, own)) for a in info.alternatives(site, here)]
        for names, matched in zip(found, (True, False), strict=True):
            names |= dict.fromkeys(here, tuple(name for name, passes in known if passes == matched))
    return found


def report_unknown(ctx: Context, name: tree.Name, sub_block: Site) -> str | None:
    """Report a word that is no alternative of a site; return the one that is likely meant, None if none is near."""
    other = next((site for site, of in ALTERNATIVES.items() if site != sub_block and name.text in of), "")
    near, fixes = closest(name.text, ALTERNATIVES[sub_block]), list[Fix]()
    listed = ", ".join(f"`{n}`" for n in ALTERNATIVES[sub_block])
    help = f"{sub_block} alternatives: {listed}"
    if other:
        help = f"`{name.text}` is an alternative of `{other}`; {sub_block} has {listed}"
    elif printed := re.fullmatch(r"(mlp|gqa)(\d+)", name.text):
        key = "width" if printed[1] == "mlp" else "kv_heads"
        meant = f"{printed[1]}({key}: {printed[2]})"
        help, fixes = f"`{name.text}` is a name of tables: write `{meant}`", [Fix.replace(name.span, meant)]
        near = None
    said: Args = {"name": name.text, "sub_block": sub_block}
    ctx.report(errors.UnknownAlternative(name.span, near=near, help=help, fixes=fixes, **said))
    return near


def _field(
    ctx: Context, field: tree.PatternField, name: str, scope: Scope, info: SpaceInfo, known: tuple[str, ...]
) -> Predicate:
    key = field.name.text
    if key not in known:
        near = closest(key, known)
        said: Args = {"thing": f"`{name}`", "name": key}
        takes = f"it has {', '.join(f'`{k}`' for k in known)}" if known else f"write `{name}` alone"
        raise ctx.refuse(errors.UnknownKey(field.name.span, near=near, help=takes, **said))
    if (stored := STORAGE.get(key)) is not None:  # one of some words, or none of them
        if field.op not in ("==", "!="):
            raise ctx.wrong(field.value.span, f"`{key}`", f"a type alone: `{key}: q8_0`", f"`{field.op}`")
        before, read = len(ctx.sink.items), partial(ctx.attempt, read_word, ctx)
        words = [read(option, scope, stored.words, stored.noun) for option in options_of(field.value)]
        if None in words or len(ctx.sink.items) > before:
            raise Refused
        return lambda each, own: ((getattr(each, key, None) or FULL) in words) != (field.op == "!=")
    if isinstance(field.value, tree.Name) and field.value.text == "full" and key == "window":
        values = [(UNCAPPED, False)]
    else:
        values = ctx.all(_number, located(ctx.sound(field.value, scope), field.value.span), key)
    op: tree.CompareOp = "==" if field.op == "!=" else field.op

    def test(each: Alternative, own: Shape) -> bool:
        figures = ((f, value) for value, percent in values for f in _figures(each, key, percent, own, info))
        return any(holds(figure, op, value) for figure, value in figures) != (field.op == "!=")

    return test


def _number(ctx: Context, option: Located, key: str) -> tuple[Fraction, bool]:
    number = as_constant(ctx, option.value, option.span, f"`{key}`")
    percent = number.form == "percent"
    if percent and key != "width":
        raise ctx.wrong(option.span, f"`{key}`", "a number", "a percentage")
    return number.value, percent


def _figures(each: Alternative, field: str, percent: bool, own: Shape, info: SpaceInfo) -> list[Fraction]:
    """Return the figures of an alternative that a test compares; by `percent`, all shares that were rounded to its width."""
    figure = each.figure(field, own)
    if figure is None:
        return []
    if not percent:
        return [figure]
    whole = own.expert_width if each.alone(own).ffn == "moe" else own.ffn_width
    return [exact / whole for exact in sorted(info.asked.get((whole, int(figure)), {figure}))]
