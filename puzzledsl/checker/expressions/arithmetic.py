"""`+ - * / mod` and comparisons over quantities and over values that a search decides. Dimensions are checked here.

Numbers stay exact fractions. A symbolic operand may be scaled by a constant and added to another operand of the same
dimension.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

from puzzledsl.base.diagnostics import Fix, Label, Span
from puzzledsl.base.units import COUNT, TOK_PER_S, Dimension, Form, Quantity
from puzzledsl.checker.context import Context
from puzzledsl.checker.diagnostics import type_errors as errors
from puzzledsl.checker.diagnostics.name_errors import TooMuch
from puzzledsl.checker.expressions.dimensions import is_times, label, times_instead, unit_fixes, would_do
from puzzledsl.checker.expressions.layer_tables import BOTH, axis_names, layer_of, pointwise, tables_of
from puzzledsl.checker.expressions.search_values import Number, Symbolic
from puzzledsl.checker.expressions.values import POISON, Symbol, Value, describe
from puzzledsl.checker.limits import MAX_BITS
from puzzledsl.syntax import tree


def combine(ctx: Context, op: str, left: Number, right: Number, at: tree.Binary, left_span: Span) -> Value:
    """Return `left op right`. `at` and `left_span` (the whole left operand) are the places for diagnostics."""
    match op:
        case "+" | "-":
            result = _add(ctx, op, left, right, left_span, at.right.span)
        case "*":
            result = _multiply(ctx, left, right, at, left_span)
        case "/":
            result = _divide(ctx, left, right, at, left_span)
        case _:
            result = _modulo(ctx, left, right, at, left_span)
    return guard(ctx, result, at.span)


def guard(ctx: Context, value: Value, span: Span) -> Value:
    """Return the value; report a number of more than MAX_BITS bits and return POISON."""
    numbers: list[Fraction] = []
    if isinstance(value, Quantity):
        numbers = [value.value]
    elif isinstance(value, Symbolic):
        numbers = [*value.terms.values(), value.constant]
    if any(max(n.numerator.bit_length(), n.denominator.bit_length()) > MAX_BITS for n in numbers):
        ctx.report(TooMuch(span, what="this number", limit=f"{MAX_BITS} bits"))
        return POISON
    return value


def negate(value: Number) -> Number:
    """`-value`."""
    if isinstance(value, Quantity):
        return Quantity(-value.value, value.dimension, value.form)
    return scale(value, Fraction(-1))


def scale(value: Symbolic, factor: Fraction) -> Symbolic:
    """`factor * value`, factor a plain number."""
    terms = {key: c * factor for key, c in value.terms.items()} if factor else {}
    return Symbolic(terms, value.constant * factor, value.dimension, value.space)


def as_symbolic(value: Number) -> Symbolic:
    """A constant as a linear expression without terms."""
    return value if isinstance(value, Symbolic) else Symbolic({}, value.value, value.dimension)


def add_symbolic(left: Symbolic, right: Symbolic, sign: int = 1) -> Symbolic:
    """`left + sign * right`, of one dimension."""
    terms = dict(left.terms)
    for key, coefficient in right.terms.items():
        total = terms.get(key, Fraction(0)) + sign * coefficient
        if total:
            terms[key] = total
        else:
            terms.pop(key, None)
    space = left.space or right.space
    return Symbolic(terms, left.constant + sign * right.constant, left.dimension, space)


# ---------------------------------------------------------------- sums


def _add(ctx: Context, op: str, left: Number, right: Number, left_span: Span, right_span: Span) -> Value:
    if left.dimension != right.dimension or is_times(left) != is_times(right):
        ctx.report(
            errors.UnlikeSum(
                right_span,
                label(right),
                secondary=[Label(left_span, label(left))],
                op=op,
                left=describe(left),
                right=describe(right),
            )
        )
        return POISON
    sign = 1 if op == "+" else -1
    if isinstance(left, Quantity) and isinstance(right, Quantity):
        form: Form = left.form if left.form == right.form else "plain"
        return Quantity(left.value + sign * right.value, left.dimension, form)
    for side, other, span in ((left, right, left_span), (right, left, right_span)):
        mixed = isinstance(other, Symbolic) or other.value != 0
        if isinstance(side, Symbolic) and side.dimension == TOK_PER_S and mixed and _is_throughput(side):
            return throughput_alone(ctx, side, span)
    return add_symbolic(as_symbolic(left), as_symbolic(right), sign)


def _is_throughput(value: Symbolic) -> bool:
    return any(key[0] == "metric" and key[2] == "throughput" for key in value.terms)


def throughput_alone(ctx: Context, value: Symbolic, span: Span) -> Value:
    """Report throughput that is mixed with other terms."""
    scenario = next(key[1] for key in value.terms if key[0] == "metric" and key[2] == "throughput")
    help = (
        "throughput is batch * output / latency, which is not linear; alone, "
        f"`{scenario}.throughput >= X` becomes `{scenario}.latency <= batch * output / X`. Use `{scenario}.latency` here"
    )
    ctx.report(errors.ThroughputAlone(span, metric=f"{scenario}.throughput", help=help))
    return POISON


# ---------------------------------------------------------------- products


def _form(left: Quantity, right: Quantity) -> Form:
    return (
        "times"
        if is_times(left) != is_times(right) and left.dimension == right.dimension == COUNT
        else "plain"
    )


def _multiply(ctx: Context, left: Number, right: Number, at: tree.Binary, left_span: Span) -> Value:
    dimension = left.dimension * right.dimension
    if isinstance(left, Quantity) and isinstance(right, Quantity):
        return Quantity(left.value * right.value, dimension, _form(left, right))
    if isinstance(left, Symbolic) and isinstance(right, Symbolic):
        if right.terms and left.terms:
            return _in_one_layer(ctx, operator.mul, left, right, dimension, at) or _not_linear(
                ctx, "*", "multiplies two things", at, left_span
            )
        constant, linear = (left.constant, right) if not left.terms else (right.constant, left)
    elif is_times(left) or is_times(right):
        literal, other = (left, at.right.span) if is_times(left) else (right, left_span)
        text = str(literal)
        instead = f"write `{text[:-1]} * {ctx.operand(other)}`, or `require METRIC <= {text}`"
        ctx.report(errors.RatioWithoutMetric(at.span, text=text, instead=instead))
        return POISON
    elif isinstance(left, Quantity):
        constant, linear = left.value, as_symbolic(right)
    else:
        constant, linear = as_symbolic(right).constant, as_symbolic(left)
    scaled = scale(linear, constant)
    return Symbolic(scaled.terms, scaled.constant, dimension, linear.space)


def _in_one_layer(
    ctx: Context,
    of: Callable[..., Fraction],
    left: Number,
    right: Number,
    dimension: Dimension,
    at: tree.Binary,
) -> Value | None:
    """Return `of(left, right)` as a table if both sides depend on the same single layer, else None."""
    if layer_of([left, right]) is None:
        return None
    tables = tables_of(ctx, [left, right], at.span)
    return POISON if tables is None else pointwise(tables, dimension, of)


def _divide_tables(
    ctx: Context,
    of: Callable[..., Fraction],
    left: Number,
    right: Number,
    dimension: Dimension,
    at: tree.Binary,
) -> Value:
    """Divide or take the remainder within one layer; report an alternative that makes the divisor zero."""
    tables = tables_of(ctx, [left, right], at.span)
    if tables is None:
        return POISON
    divisor = tables[1]
    names = [axis_names(divisor.space, divisor.layer, part) for part in BOTH]
    for attention, row in zip(names[0], divisor.cells, strict=True):
        for ffn, cell in zip(names[1], row, strict=True):
            if cell == 0:
                said = f"zero where layer {divisor.layer} has attention `{attention}` and ffn `{ffn}`"
                ctx.report(errors.DivisionByZero(at.right.span, said))
                return POISON
    return pointwise(tables, dimension, of)


def _divide(ctx: Context, left: Number, right: Number, at: tree.Binary, left_span: Span) -> Value:
    if isinstance(right, Symbolic):
        if not right.terms:
            right = Quantity(right.constant, right.dimension)
        elif layer_of([left, right]) is not None:
            return _divide_tables(ctx, operator.truediv, left, right, left.dimension / right.dimension, at)
        elif isinstance(left, Symbolic) and left.terms:
            return _not_linear(ctx, "/", "divides two things", at, left_span)
        else:
            help = "turn it round: `a / x <= b` is `x >= a / b`"
            label_ = Label(at.right.span, "decided by the search")
            ctx.report(
                errors.NotLinear(
                    at.span, op="/", verb="divides by what", example="", help=help, secondary=[label_]
                )
            )
            return POISON
    if right.value == 0:
        ctx.report(errors.DivisionByZero(at.right.span, "this is zero"))
        return POISON
    dimension = left.dimension / right.dimension
    if isinstance(left, Quantity):
        form: Form = "times" if is_times(left) and right.form != "times" and dimension == COUNT else "plain"
        return Quantity(left.value / right.value, dimension, form)
    scaled = scale(left, 1 / right.value)
    return Symbolic(scaled.terms, scaled.constant, dimension, left.space)


def _modulo(ctx: Context, left: Number, right: Number, at: tree.Binary, left_span: Span) -> Value:
    if left.dimension == right.dimension and layer_of([left, right]) is not None:
        return _divide_tables(ctx, operator.mod, left, right, left.dimension, at)
    for side, span in ((left, left_span), (right, at.right.span)):
        if isinstance(side, Symbolic):
            ctx.report(errors.NotConstant(span, what="each side of `mod`", got="this"))
            return POISON
    assert isinstance(left, Quantity) and isinstance(right, Quantity)
    if left.dimension != right.dimension:
        return _add(ctx, "mod", left, right, left_span, at.right.span)
    if right.value == 0:
        ctx.report(errors.DivisionByZero(at.right.span, "this is zero"))
        return POISON
    return Quantity(left.value % right.value, left.dimension)


def _not_linear(ctx: Context, op: str, verb: str, at: tree.Binary, left_span: Span) -> Value:
    ctx.report(
        errors.NotLinear(
            at.right.span,
            "decided by the search",
            secondary=[Label(left_span, "decided by the search, too")],
            op=op,
            verb=verb,
            example=ctx.operand(left_span),
        )
    )
    return POISON


# ---------------------------------------------------------------- comparisons


def _literal(ctx: Context, span: Span) -> Span:
    """Return the place of the literal that a `param` of this name holds; the span itself for anything else."""
    file, name = ctx.file_of(span), ctx.source(span)
    symbol = file.names.get(name)
    if not isinstance(symbol, Symbol) or symbol.file is not file or name in ctx.settings:
        return span
    value = symbol.item.default if isinstance(symbol.item, tree.Param) else None
    return value.span if isinstance(value, tree.Literal_) else span


def comparable(
    ctx: Context, op: str, left: Number, right: Number, left_span: Span, right_span: Span, op_span: Span
) -> bool:
    """Return True if two sides have the same dimension; report a mismatch and return False.

    A literal such as `2x` (times the parent's) compares with a metric of any dimension.
    """
    if is_times(left) or is_times(right):
        if is_times(left) and is_times(right):
            return True
        if isinstance(left, Symbolic) or isinstance(right, Symbolic):
            return True
    elif left.dimension == right.dimension:
        return True
    literal_left = isinstance(left, Quantity) and not isinstance(right, Quantity)
    first, second = (left_span, right_span) if literal_left else (right_span, left_span)
    mine, other = (left, right) if literal_left else (right, left)
    place = _literal(ctx, first)
    times = times_instead(other, mine)
    fixes = unit_fixes(other.dimension, mine, first, ctx.source(first))
    if place != first:  # the type that the name is declared with takes no unit
        fixes = [Fix.replace(place, times, safe=False)] if times else []
    elif times:  # neither literal is certain to be the one meant
        fixes = [
            fix
            for known in fixes
            for fix in (replace(known, safe=False), Fix.replace(first, times, safe=False))
        ]
    unit = would_do(other.dimension, mine) or would_do(mine.dimension, other)
    multiple = f"`{times}` for {times.removesuffix('x')} times the parent's"
    help = unit if not times else f"write {multiple}" if place != first else f"{unit}, or {multiple}"
    secondary = [Label(second, label(other)), *([Label(place, "its value")] if place != first else [])]
    error = errors.UnlikeComparison(
        first,
        label(mine),
        secondary=secondary,
        help=help,
        fixes=fixes,
        op=op,
        left=describe(left),
        right=describe(right),
    )
    ctx.report(error)
    return False
