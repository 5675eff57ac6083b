"""Comparisons of `runs(P)`, `longest(P)` and `distinct(F)` with whole numbers: these values are not sums over layers."""

from __future__ import annotations

from puzzledsl.base.diagnostics import Span
from puzzledsl.checker.context import Context
from puzzledsl.checker.diagnostics import type_errors as errors
from puzzledsl.checker.diagnostics.name_errors import TooMuch
from puzzledsl.checker.expressions.coercions import as_whole, not_a_sum
from puzzledsl.checker.expressions.linear import FLIPPED
from puzzledsl.checker.expressions.search_values import Formula, Tally
from puzzledsl.checker.expressions.values import POISON, Located, Value, describe
from puzzledsl.checker.limits import MAX_FORMULA
from puzzledsl.ir import nodes
from puzzledsl.syntax.tree import CompareOp


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
        return _bounded(tally, *_limits(turned, number))
    found = _bounded(tally, number, number)
    return Formula(nodes.Not(operand=found.logic), found.size + 1, found.space)


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
    return _bounded(tally, least, most)


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


def _bounded(tally: Tally, least: int, most: int | None) -> Formula:
    """The formula that a figure is from `least` to `most`."""
    if most is not None and most < max(least, 0):
        return Formula(nodes.Or(operands=()), 1, tally.space)
    bounds = {"at_least": max(least, 0), "at_most": most}
    return Formula(tally.figure.model_copy(update=bounds), tally.size, tally.space)


def fits(ctx: Context, size: int, span: Span) -> bool:
    """False, reported, for a statement with more parts than a formula may have."""
    if size > MAX_FORMULA:
        ctx.report(TooMuch(span, what="this statement", limit=f"{MAX_FORMULA:,} parts"))
    return size <= MAX_FORMULA


def wrong_argument(ctx: Context, name: str, item: Located, wanted: str, help: str, got: str = "") -> None:
    """Report an argument of `runs`, `longest` or `distinct` that is of another kind than wanted."""
    what = f"what `{name}` {'compares' if name == 'distinct' else 'looks at'}"
    got = got or describe(item.value)
    ctx.report(errors.WrongType(item.span, what=what, wanted=wanted, got=got, help=help))
