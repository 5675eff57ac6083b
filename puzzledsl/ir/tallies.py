"""`runs(P)`, `longest(P)` and `distinct(F)`: figures of the whole child that are no sums, bounded by whole numbers."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

from puzzledsl.diagnostics import Span
from puzzledsl.ir import errors_types as errors
from puzzledsl.ir import nodes
from puzzledsl.ir.alternatives import SubBlock, name_of
from puzzledsl.ir.context import Context
from puzzledsl.ir.errors import TooMuch
from puzzledsl.ir.facts import fact
from puzzledsl.ir.layer_tables import (
    BOTH,
    as_formula,
    layer_of,
    layer_spoken_of,
    statement,
    tables_of,
)
from puzzledsl.ir.limits import MAX_FORMULA, TERMS_PER_STEP
from puzzledsl.ir.linear import FLIPPED
from puzzledsl.ir.readers import as_number, as_whole, not_a_sum
from puzzledsl.ir.space_info import SpaceInfo
from puzzledsl.ir.structures import FALSE, TRUE, Function, parts_of, within
from puzzledsl.ir.values import (
    POISON,
    Boolean,
    Facts,
    Formula,
    Layers,
    Located,
    Matches,
    SubBlocks,
    Symbolic,
    Tally,
    Value,
    describe,
)
from puzzledsl.lang import tree
from puzzledsl.lang.tree import CompareOp
from puzzledsl.units import Quantity

# ---------------------------------------------------------------- runs and the longest run

_STATEMENT = "a statement about one layer, such as `attention is noop`"


def read_runs(ctx: Context, name: str, items: list[Located], call: tree.Call) -> Value:
    """`runs(P)` or `longest(P)`: P of each layer, in the order of the layers. A constant where every P is one."""
    found: list[nodes.Logic] = []
    size, last = 0, -1
    space: SpaceInfo | None = None
    for item in items:
        parts = _statements(ctx, name, item)
        if parts is None:
            return POISON
        for part in parts:
            if isinstance(part, Boolean):
                found.append(TRUE if part.value else FALSE)
                size += 1
                continue
            layer = _layer(part)
            if layer <= last:
                _out_of_order(ctx, name, item.span, last, layer)
                return POISON
            last, space, size = layer, part.space, size + part.size
            found.append(part.logic)
    if space is None:
        return Quantity(Fraction(_known(name, [logic == TRUE for logic in found])))
    if not _fits(ctx, size, call.span):
        return POISON
    function: Function = "runs" if name == "runs" else "longest"
    return Tally(function, tuple(found), size, space, ctx.source(call.span))


def _statements(ctx: Context, name: str, item: Located) -> list[Formula | Boolean] | None:
    """The statements about one layer each that an argument is; None, reported, for anything else."""
    match item.value:
        case Matches(space=space, sub_block=part, names=names, indices=indices):
            return [Formula(nodes.Is(layer=i, sub_block=part, alternatives=names), 1, space) for i in indices]
        case SubBlocks(sub_block=part):
            _wrong(ctx, name, item, _STATEMENT, f"say what: `{name}({part} is noop)`")
            return None
    found = as_formula(ctx, item.value, item.span)
    if found is None:
        _wrong(ctx, name, item, _STATEMENT, "")
        return None
    if isinstance(found, Formula) and layer_spoken_of(found) is None:
        help = f"each statement is about one layer: `{name}(l is noop for l in layers)`"
        ctx.report(
            errors.WrongType(
                item.span,
                what=f"what `{name}` looks at",
                wanted=_STATEMENT,
                got="a statement about several layers",
                help=help,
            )
        )
        return None
    return [found]


def _layer(formula: Formula) -> int:
    at = layer_spoken_of(formula)
    assert at is not None
    return at[1]


def _out_of_order(ctx: Context, name: str, span: Span, last: int, layer: int) -> None:
    got = f"two about layer {layer}" if layer == last else f"layer {layer} after layer {last}"
    help = f"go through the layers once, from the first to the last: `{name}(l is noop for l in layers)`"
    what, wanted = f"the statements of `{name}`", "one for each layer, in the order of the layers"
    ctx.report(errors.WrongType(span, what=what, wanted=wanted, got=got, help=help))


def _known(name: str, truths: list[bool]) -> int:
    """The figure of statements that are all constant."""
    if name == "runs":
        return sum(here and not before for before, here in zip([False, *truths], truths, strict=False))
    best = length = 0
    for holds in truths:
        length = length + 1 if holds else 0
        best = max(best, length)
    return best


# ---------------------------------------------------------------- different values

_FIGURE = "a figure of layers, such as `ffn.width`, or their choice, such as `ffn`"
_APART = "write a `require` for each of the two"
Takes = tuple[object, nodes.Logic, int]
"""A value, the statement that one layer takes it, and the statement's size."""


def read_distinct(ctx: Context, items: list[Located], call: tree.Call) -> Value:
    """`distinct(F)`: how many different values F takes over the layers. A constant where every F is one."""
    by_value: dict[object, list[nodes.Logic]] = {}
    size = 0
    space: SpaceInfo | None = None
    kinds: set[str] = set()
    for item in items:
        taken = _taken(ctx, item)
        if taken is None or not _is_of_one_kind(ctx, item, kinds):
            return POISON
        space = getattr(item.value, "space", None) or space
        for value, logic, parts in taken:
            by_value.setdefault(value, []).append(logic)
            size += parts
            if not _fits(ctx, size, call.span):
                return POISON
    if space is None:
        return Quantity(Fraction(len(by_value)))
    statements = tuple(nodes.Or(operands=tuple(logics)) for logics in by_value.values())
    return Tally("distinct", statements, size, space, ctx.source(call.span))


def _is_of_one_kind(ctx: Context, item: Located, kinds: set[str]) -> bool:
    """True while all values are of one kind; a width and an alternative are never the same. Reports the first other."""
    match item.value:
        case SubBlocks(sub_block=part):
            kind = f"alternatives of `{part}`"
        case Layers():
            kind = "layers"
        case Quantity(dimension=dimension) | Symbolic(dimension=dimension):
            kind = dimension.name
        case _:
            kind = "a plain number"
    kinds.add(kind)
    if len(kinds) > 1:
        left, right = sorted(kinds - {kind})[0], kind
        ctx.report(errors.UnlikeSum(item.span, op="distinct", left=left, right=right, help=_APART))
    return len(kinds) == 1


def _taken(ctx: Context, item: Located) -> list[Takes] | None:
    """Every value that an argument may take, with the statement that it does; None, reported, for a wrong argument."""
    match item.value:
        case Facts(space=space, sub_block=part, attribute=attribute, indices=indices):
            return list(_facts(space, part, attribute, indices))
        case SubBlocks(space=space, sub_block=part, indices=indices):
            return list(_names(space, part, indices))
        case Layers(space=space, indices=indices) if indices:
            return list(_pairs(space, indices))
        case Boolean() | Formula() | Matches():
            _wrong(ctx, "distinct", item, _FIGURE, "statements are counted: `count(attention is noop)`")
            return None
    number = as_number(ctx, item.value, item.span, "what `distinct` compares")
    if number is None:
        return None
    if isinstance(number, Quantity):
        return [(number.value, TRUE, 1)]
    tables = tables_of(ctx, [number], item.span)
    if tables is None:
        if layer_of([number]) is None:
            help = "each value hangs on one layer: `distinct(l.ffn.width for l in layers)`"
            _wrong(
                ctx, "distinct", item, _FIGURE, help, got="a figure of several layers or of the whole child"
            )
        return None
    (table,) = tables
    found: list[Takes] = []
    for cell in sorted({cell for row in table.cells for cell in row}):
        holds = statement(table, [[other == cell for other in row] for row in table.cells])
        if isinstance(holds, Formula):
            found.append((cell, holds.logic, holds.size))
        elif holds.value:
            found.append((cell, TRUE, 1))
    return found


def _facts(space: SpaceInfo, part: SubBlock, attribute: str, indices: tuple[int, ...]) -> Iterator[Takes]:
    for layer in indices:
        by_value: dict[int, list[str]] = {}
        for alternative in space.choices(part)[layer]:
            by_value.setdefault(fact(alternative, attribute, space.shape), []).append(name_of(alternative))
        for value, names in by_value.items():
            yield Fraction(value), nodes.Is(layer=layer, sub_block=part, alternatives=tuple(names)), 1


def _names(space: SpaceInfo, part: SubBlock, indices: tuple[int, ...]) -> Iterator[Takes]:
    for layer in indices:
        for name in map(name_of, space.choices(part)[layer]):
            yield name, nodes.Is(layer=layer, sub_block=part, alternatives=(name,)), 1


def _pairs(space: SpaceInfo, indices: tuple[int, ...]) -> Iterator[Takes]:
    for layer in indices:
        attention, ffn = (tuple(map(name_of, space.choices(part)[layer])) for part in BOTH)
        for pair in ((a, f) for a in attention for f in ffn):
            choices = (
                nodes.Is(layer=layer, sub_block=part, alternatives=(name,))
                for part, name in zip(BOTH, pair, strict=True)
            )
            yield pair, nodes.And(operands=tuple(choices)), 3


def _wrong(ctx: Context, name: str, item: Located, wanted: str, help: str, got: str = "") -> None:
    what = f"what `{name}` {'compares' if name == 'distinct' else 'looks at'}"
    got = got or describe(item.value)
    ctx.report(errors.WrongType(item.span, what=what, wanted=wanted, got=got, help=help))


# ---------------------------------------------------------------- comparisons


def compare_tally(
    ctx: Context, left: Value, op: CompareOp, right: Value, left_span: Span, right_span: Span
) -> Value:
    """`runs(P) <= 2`, either way round; POISON, reported, beside anything but a whole number."""
    if isinstance(left, Tally) and isinstance(right, Tally):
        not_a_sum(ctx, right, right_span)
        return POISON
    tally, bound, span = (left, right, right_span) if isinstance(left, Tally) else (right, left, left_span)
    assert isinstance(tally, Tally)
    number = as_whole(ctx, bound, span, f"what `{tally.text}` is compared with")
    if number is None:
        return POISON
    turned = op if tally is left else FLIPPED[op]
    if turned != "!=":
        return _bounded(ctx, tally, *_limits(turned, number), left_span.to(right_span)) or POISON
    found = _bounded(ctx, tally, number, number, left_span.to(right_span))
    return Formula(nodes.Not(operand=found.logic), found.size + 1, found.space) if found else POISON


def tally_between(
    ctx: Context,
    low: Value,
    first: CompareOp,
    tally: Tally,
    second: CompareOp,
    high: Value,
    spans: tuple[Span, Span, Span],
) -> Value:
    """`1 <= runs(P) <= 2` as one formula."""
    what = f"what `{tally.text}` is compared with"
    limits: list[tuple[int, int | None]] = []
    for op, value, span in ((FLIPPED[first], low, spans[0]), (second, high, spans[2])):
        if isinstance(value, Tally):
            not_a_sum(ctx, value, span)
            return POISON
        number = as_whole(ctx, value, span, what)
        if number is None:
            return POISON
        if op == "!=":
            instead = "write two requirements"
            ctx.report(errors.BadEquality(spans[1], op="!=", what="something in a chain", instead=instead))
            return POISON
        limits.append(_limits(op, number))
    least = max(limit[0] for limit in limits)
    most = min((limit[1] for limit in limits if limit[1] is not None), default=None)
    return _bounded(ctx, tally, least, most, spans[0].to(spans[2])) or POISON


def _limits(op: CompareOp, number: int) -> tuple[int, int | None]:
    """The least and the most that a comparison allows; None: no upper limit."""
    match op:
        case "<=":
            return 0, number
        case "<":
            return 0, number - 1
        case ">=":
            return number, None
        case ">":
            return number + 1, None
        case _:
            return number, number


def _bounded(ctx: Context, tally: Tally, least: int, most: int | None, span: Span) -> Formula | None:
    """The formula that a figure is from `least` to `most`; None, reported, for one that is too large."""
    size = parts_of(tally.function, tally.size, len(tally.statements), least, most)
    if not _fits(ctx, size, span):
        return None
    ctx.spend(span, size // TERMS_PER_STEP)
    return Formula(within(tally.function, tally.statements, least, most), size, tally.space, whole=True)


def _fits(ctx: Context, size: int, span: Span) -> bool:
    if size > MAX_FORMULA:
        ctx.report(TooMuch(span, what="this statement", limit=f"{MAX_FORMULA:,} parts"))
    return size <= MAX_FORMULA
