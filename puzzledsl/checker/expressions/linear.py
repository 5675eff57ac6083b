"""Linear form of a search's comparisons and goals: decided values on the left side, a constant on the right."""

from __future__ import annotations

from fractions import Fraction
from typing import Literal, cast

from puzzledsl.base.diagnostics import Span
from puzzledsl.base.units import BYTES, TIME, TOK_PER_S, Quantity
from puzzledsl.checker.context import Context
from puzzledsl.checker.diagnostics import type_errors as errors
from puzzledsl.checker.expressions.arithmetic import (
    add_symbolic,
    as_symbolic,
    comparable,
    scale,
    throughput_alone,
)
from puzzledsl.checker.expressions.dimensions import is_times
from puzzledsl.checker.expressions.layer_tables import compared, holds, layer_of
from puzzledsl.checker.expressions.search_values import Comparison, Conjunction, Number, Symbolic, TermKey
from puzzledsl.checker.expressions.terms import to_linear
from puzzledsl.checker.expressions.values import POISON, Boolean, Value
from puzzledsl.checker.limits import TERMS_PER_STEP
from puzzledsl.ir import nodes
from puzzledsl.ir.metric_records import METRICS
from puzzledsl.syntax.tree import CompareOp

FLIPPED: dict[CompareOp, CompareOp] = {"<=": ">=", ">=": "<=", "<": ">", ">": "<", "==": "==", "!=": "!="}


def compare(
    ctx: Context, left: Number, op: CompareOp, right: Number, left_span: Span, right_span: Span, op_span: Span
) -> Value:
    """`left op right`: Boolean over constants, else a Conjunction of one Comparison; POISON, reported, where it cannot be."""
    if not comparable(ctx, op, left, right, left_span, right_span, op_span):
        return POISON
    left, right = _constant_if_it_is(left), _constant_if_it_is(right)
    if isinstance(left, Quantity) and isinstance(right, Quantity):
        return Boolean(holds(left.value, op, right.value))
    if op == "!=" and layer_of([left, right]) is None:
        instead = "a search can only bound it: write `<=` or `>=`"
        ctx.report(errors.BadEquality(op_span, op="!=", what="something the search decides", instead=instead))
        return POISON
    if isinstance(left, Quantity):
        left, right, left_span, right_span = right, left, right_span, left_span
        op = FLIPPED[op]
    symbolic = as_symbolic(left)
    if isinstance(right, Quantity) and is_times(right):
        return _finish(ctx, symbolic, op, None, right.value, left_span, right_span, op_span)
    moved = add_symbolic(symbolic, as_symbolic(right), -1)
    if not moved.terms:
        return Boolean(holds(moved.constant, op, Fraction(0)))
    left_side = Symbolic(moved.terms, Fraction(0), moved.dimension, moved.space)
    return _finish(ctx, left_side, op, -moved.constant, None, left_span, right_span, op_span)


def _constant_if_it_is(value: Number) -> Number:
    if isinstance(value, Symbolic) and not value.terms:
        return Quantity(value.constant, value.dimension)
    return value


def _finish(
    ctx: Context,
    left: Symbolic,
    op: CompareOp,
    bound: Fraction | None,
    ratio: Fraction | None,
    left_span: Span,
    right_span: Span,
    op_span: Span,
) -> Value:
    if op == "==" and any(key[0] in ("metric", "score") and not is_batch(key) for key in left.terms):
        what = "a metric or score, which takes scattered values"
        ctx.report(errors.BadEquality(op_span, op="==", what=what, instead="write `<=` or `>=`"))
        return POISON
    if ratio is not None and any(map(is_batch, left.terms)):
        return batch_is_no_ratio(ctx, right_span, "compare the batch with a number, such as `>= 32`")
    if any(is_throughput(key) for key in left.terms):
        if len(left.terms) > 1 or left.constant:
            return throughput_alone(ctx, left, left_span)
        factor = next(iter(left.terms.values()))
        left = scale(left, 1 / factor)
        bound = None if bound is None else bound / factor
        op = FLIPPED[op] if factor < 0 else op
    kept = cast(Literal["<=", ">=", "==", "<", ">"], op)
    comparison = Comparison(left, kept, bound, ratio, left_span, right_span)
    if op == "!=":
        return compared(ctx, comparison, op_span) or POISON
    return Conjunction((comparison,))


def is_throughput(key: TermKey) -> bool:
    """True for the key of a scenario's throughput."""
    return key[0] == "metric" and key[2] == "throughput"


def is_batch(key: TermKey) -> bool:
    """True for the key of a scenario's batch."""
    return key[0] == "metric" and key[2] == "batch"


def batch_is_no_ratio(ctx: Context, span: Span, instead: str) -> Value:
    """Report a batch that is compared with the parent's."""
    what, wanted, got = "what a batch is compared with", "a number", "a ratio of the parent's"
    help = f"the parent is taken at the child's own batch: {instead}"
    ctx.report(errors.WrongType(span, what=what, wanted=wanted, got=got, help=help))
    return POISON


def is_cost(key: TermKey) -> bool:
    """True for the key of a score, or of a metric of which less is better."""
    return key[0] == "score" or (key[0] == "metric" and METRICS[str(key[2])].better == "less")


def to_requirement(
    ctx: Context, comparison: Comparison, because: str, where: nodes.Where, bound_where: nodes.Where
) -> nodes.LinearRequirement:
    """A comparison as the IR's requirement."""
    ctx.spend(comparison.span, len(comparison.left.terms) // TERMS_PER_STEP)
    units: dict[object, Literal["bytes", "seconds", "tokens_per_s"]] = {
        BYTES: "bytes",
        TIME: "seconds",
        TOK_PER_S: "tokens_per_s",
    }
    return nodes.LinearRequirement(
        left=to_linear(comparison.left),
        op=comparison.op,
        bound=comparison.bound,
        parent_ratio=comparison.parent_ratio,
        unit=units.get(comparison.left.dimension, ""),
        because=because,
        where=where,
        bound_where=bound_where,
    )
