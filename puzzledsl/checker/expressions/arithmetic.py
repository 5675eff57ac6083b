"""`+ - * / mod` over quantities and over values that a search decides. Dimensions are checked here.

Numbers stay exact fractions. A symbolic operand may be scaled by a constant and added to another operand of the same
dimension; two operands of one layer are combined cell by cell.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from fractions import Fraction
from typing import NoReturn

from puzzledsl.base.diagnostics import Args, Label, Span
from puzzledsl.base.units import COUNT, TOK_PER_S, Dimension, Form, Quantity
from puzzledsl.checker import errors
from puzzledsl.checker.context import Context
from puzzledsl.checker.expressions.coercions import is_times, label
from puzzledsl.checker.expressions.layer_tables import layer_of, pointwise, tables_of
from puzzledsl.checker.expressions.terms import add_all, as_symbolic, is_metric, is_throughput, scale
from puzzledsl.checker.expressions.values import Number, Symbolic, Value, describe
from puzzledsl.checker.limits import MAX_BITS
from puzzledsl.syntax import tree

_DECIDED = "decided by the search"


def guard(ctx: Context, value: Number, span: Span) -> Number:
    """Return the value; one with a number of more than MAX_BITS bits is refused."""
    numbers = [value.value] if isinstance(value, Quantity) else [*value.terms.values(), value.constant]
    if any(max(n.numerator.bit_length(), n.denominator.bit_length()) > MAX_BITS for n in numbers):
        raise ctx.too_much(span, "this number", f"{MAX_BITS} bits")
    return value


def _add(ctx: Context, left: Number, right: Number, at: tree.Binary, left_span: Span) -> Number:
    op, right_span = at.op, at.right.span
    if left.dimension != right.dimension or is_times(left) != is_times(right):
        sides: Args = {"left": describe(left), "right": describe(right)}
        beside = [Label(left_span, label(left))]
        raise ctx.refuse(errors.UnlikeSum(right_span, label(right), secondary=beside, op=op, **sides))
    sign = Fraction(1 if op == "+" else -1)
    if isinstance(left, Quantity) and isinstance(right, Quantity):
        form: Form = left.form if left.form == right.form else "plain"
        return Quantity(left.value + sign * right.value, left.dimension, form)
    for side, other, span in ((left, right, left_span), (right, left, right_span)):
        mixed = isinstance(other, Symbolic) or other.value != 0
        if isinstance(side, Symbolic) and side.dimension == TOK_PER_S and mixed and is_throughput(side):
            refuse_throughput(ctx, side, span)
    return add_all([as_symbolic(left), scale(as_symbolic(right), sign)])


def refuse_throughput(ctx: Context, value: Symbolic, span: Span) -> NoReturn:
    """Refuse throughput that is mixed with other terms."""
    scenario = next(key[1] for key in value.terms if is_metric(key, "throughput"))
    help = (
        "throughput is batch * output / latency, which is not linear; alone, "
        f"`{scenario}.throughput >= X` becomes `{scenario}.latency <= batch * output / X`. Use `{scenario}.latency` here"
    )
    raise ctx.refuse(errors.ThroughputAlone(span, metric=f"{scenario}.throughput", help=help))


def _multiply(ctx: Context, left: Number, right: Number, at: tree.Binary, left_span: Span) -> Number:
    dimension = left.dimension * right.dimension
    if isinstance(left, Quantity) and isinstance(right, Quantity):
        ratio = is_times(left) != is_times(right) and left.dimension == right.dimension == COUNT
        return Quantity(left.value * right.value, dimension, "times" if ratio else "plain")
    if isinstance(left, Symbolic) and isinstance(right, Symbolic):
        if right.terms and left.terms:
            tables = tables_of(ctx, [left, right], at.span)
            if tables is None:
                _refuse_nonlinear(ctx, "*", "multiplies two things", at, left_span)
            return pointwise(tables, dimension, operator.mul)
        constant, linear = (left.constant, right) if not left.terms else (right.constant, left)
    elif is_times(left) or is_times(right):
        literal, other = (left, at.right.span) if is_times(left) else (right, left_span)
        text = str(literal)
        instead = f"write `{text[:-1]} * {ctx.operand(other)}`, or `require METRIC <= {text}`"
        raise ctx.refuse(errors.RatioWithoutMetric(at.span, text=text, help=instead))
    elif isinstance(left, Quantity):
        constant, linear = left.value, as_symbolic(right)
    else:
        constant, linear = as_symbolic(right).constant, as_symbolic(left)
    scaled = scale(linear, constant)
    return Symbolic(scaled.terms, scaled.constant, dimension, linear.space)


def _divide(ctx: Context, left: Number, right: Number, at: tree.Binary, left_span: Span) -> Number:
    dimension = left.dimension / right.dimension
    if isinstance(right, Symbolic):
        if not right.terms:
            right = Quantity(right.constant, right.dimension)
        elif layer_of([left, right]) is not None:
            return _divided(ctx, operator.truediv, [left, right], dimension, at.right.span)
        elif isinstance(left, Symbolic) and left.terms:
            _refuse_nonlinear(ctx, "/", "divides two things", at, left_span)
        else:
            help, beside = "turn it round: `a / x <= b` is `x >= a / b`", [Label(at.right.span, _DECIDED)]
            said: Args = {"op": "/", "verb": "divides by what", "example": ""}
            raise ctx.refuse(errors.NotLinear(at.span, help=help, secondary=beside, **said))
    if right.value == 0:
        raise ctx.refuse(errors.DivisionByZero(at.right.span, "this is zero"))
    if isinstance(left, Quantity):
        form: Form = "times" if is_times(left) and right.form != "times" and dimension == COUNT else "plain"
        return Quantity(left.value / right.value, dimension, form)
    scaled = scale(left, 1 / right.value)
    return Symbolic(scaled.terms, scaled.constant, dimension, left.space)


def _modulo(ctx: Context, left: Number, right: Number, at: tree.Binary, left_span: Span) -> Number:
    if left.dimension == right.dimension and layer_of([left, right]) is not None:
        return _divided(ctx, operator.mod, [left, right], left.dimension, at.right.span)
    for side, span in ((left, left_span), (right, at.right.span)):
        if isinstance(side, Symbolic):
            raise ctx.refuse(errors.NotConstant(span, what="each side of `mod`", got="this"))
    assert isinstance(left, Quantity) and isinstance(right, Quantity)
    if left.dimension != right.dimension:
        return _add(ctx, left, right, at, left_span)
    if right.value == 0:
        raise ctx.refuse(errors.DivisionByZero(at.right.span, "this is zero"))
    return Quantity(left.value % right.value, left.dimension)


def _divided(
    ctx: Context, of: Callable[..., Fraction], sides: list[Number], dimension: Dimension, at: Span
) -> Number:
    """Divide or take the remainder within one layer; an alternative that makes the divisor zero is refused."""
    tables = tables_of(ctx, sides, at)
    assert tables is not None
    divisor = tables[1]
    for attention, row in zip(divisor.names("attention"), divisor.cells, strict=True):
        for ffn, cell in zip(divisor.names("ffn"), row, strict=True):
            if cell == 0:
                said = f"zero where layer {divisor.layer} has attention `{attention}` and ffn `{ffn}`"
                raise ctx.refuse(errors.DivisionByZero(at, said))
    return pointwise(tables, dimension, of)


def _refuse_nonlinear(ctx: Context, op: str, verb: str, at: tree.Binary, left_span: Span) -> NoReturn:
    said: Args = {"op": op, "verb": verb, "example": ctx.operand(left_span)}
    beside = [Label(left_span, f"{_DECIDED}, too")]
    raise ctx.refuse(errors.NotLinear(at.right.span, _DECIDED, secondary=beside, **said))


_OPERATIONS = {"+": _add, "-": _add, "*": _multiply, "/": _divide, "mod": _modulo}


def combine(ctx: Context, left: Number, right: Number, at: tree.Binary, left_span: Span) -> Value:
    """Return `left op right`. `at` and `left_span` (the whole left operand) are the places for diagnostics."""
    return guard(ctx, _OPERATIONS[at.op](ctx, left, right, at, left_span), at.span)
