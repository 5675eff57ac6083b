"""Conversion of values to the type that a place needs; any other value is reported."""

from __future__ import annotations

from fractions import Fraction

from puzzledsl.base.diagnostics import Fix, Span
from puzzledsl.base.units import COUNT, BadLiteral, Dimension, Quantity, parse_quantity
from puzzledsl.checker.context import Context
from puzzledsl.checker.diagnostics import type_errors as errors
from puzzledsl.checker.expressions.dimensions import EXAMPLES, unit_fixes, would_do
from puzzledsl.checker.expressions.search_values import Facts, Number, SubBlocks, Symbolic, Tally
from puzzledsl.checker.expressions.values import (
    ListValue,
    Poison,
    RangeValue,
    Ref,
    Scope,
    Text,
    Value,
    describe,
)
from puzzledsl.syntax import tree


def as_number(ctx: Context, value: Value, span: Span, what: str) -> Number | None:
    """A constant or symbolic number; a score's name stands for its sum over the child. None, reported, for other values."""
    fixes: list[Fix] = []
    match value:
        case Quantity() | Symbolic():
            return value
        case Poison():
            return None
        case Ref(symbol=symbol) if symbol.kind == "score":
            ctx.lower_later(symbol)
            return Symbolic({("score", ctx.name_of(symbol)): Fraction(1)})
        case Facts(attribute=attribute, sub_block=sub_block):
            help = (
                f"add them up: `sum({sub_block}.{attribute})`, name one layer: `layers[i].{sub_block}.{attribute}`, "
                f"or go through them: `sum(l.{sub_block}.{attribute} * … for l in layers)`"
            )
        case Tally():
            not_a_sum(ctx, value, span)
            return None
        case RangeValue():
            help = "list the values: `1 | 2 | 4`"
        case SubBlocks(sub_block=sub_block):
            help = f"count alternatives: `count({sub_block} is noop)`"
        case Ref(symbol=symbol):
            help = _instead_of(symbol.name, symbol.kind)
        case Text(value=text) if ctx.source(span) == f'"{text}"' and _is_quantity(text):
            help, fixes = f"numbers have no quotes: write `{text}`", [Fix.replace(span, text)]
        case _:
            help = ""
    got = describe(value)
    ctx.report(errors.WrongType(span, what=what, wanted="a number", got=got, help=help, fixes=fixes))
    return None


def _is_quantity(text: str) -> bool:
    try:
        parse_quantity(text)
    except BadLiteral:
        return False
    return True


def not_a_sum(ctx: Context, value: Tally, span: Span) -> None:
    """Report `runs`, `longest` or `distinct` where only sums over layers may stand."""
    ctx.report(errors.NotASum(span, text=value.text))


def _instead_of(name: str, kind: str) -> str:
    match kind:
        case "scenario":
            return f"name a metric: `{name}.memory`, `{name}.latency`, `{name}.throughput`"
        case "hardware":
            return f"name a figure: `{name}.memory`"
        case "parent":
            return f"name a fact: `{name}.layers`, `{name}.params`"
        case _:
            return ""


def as_constant(ctx: Context, value: Value, span: Span, what: str, dimension: Dimension) -> Quantity | None:
    """A constant of one dimension; None, reported, for anything else. `2x` is no plain number."""
    number = as_number(ctx, value, span, what)
    if number is None:
        return None
    if isinstance(number, Symbolic):
        if number.terms:
            ctx.report(errors.NotConstant(span, what=what, got="this"))
            return None
        number = Quantity(number.constant, number.dimension)
    if number.dimension != dimension or number.form == "times":
        wanted = dimension.name
        help, got = would_do(dimension, number), describe(number)
        if number.form == "times":
            help = f"write a literal such as `{EXAMPLES[dimension]}`" if dimension in EXAMPLES else ""
        fixes = unit_fixes(dimension, number, span, ctx.source(span))
        ctx.report(errors.WrongType(span, what=what, wanted=wanted, got=got, help=help, fixes=fixes))
        return None
    return number


def is_list(ctx: Context, value: Value, span: Span, what: str) -> bool:
    """Report `[8, 4]` where `8 | 4` is a choice; return False for any other value."""
    text = ctx.source(span)
    if not isinstance(value, ListValue) or not text.startswith("[") or not value.items:
        return False
    report_list(ctx, span, len(value.items), what)
    return True


def report_list(ctx: Context, span: Span, count: int, what: str, wanted: str = "a number") -> None:
    """Report `[8, 4]` where `8 | 4` is meant."""
    inside = ctx.source(span)[1:-1].strip().removesuffix(",")
    plain = inside.count(",") == count - 1 and not set("[#") & set(inside)
    meant = inside.replace(",", " |")
    help = (
        f"alternatives are separated by `|`: write `{meant}`"
        if plain
        else "alternatives are separated by `|`, as in `8 | 4`"
    )
    fixes = [Fix.replace(span, meant)] if plain else []
    ctx.report(errors.WrongType(span, what=what, wanted=wanted, got="a list", help=help, fixes=fixes))


def as_whole(
    ctx: Context,
    value: Value,
    span: Span,
    what: str,
    low: int | None = None,
    high: int | None = None,
    help: str = "",
) -> int | None:
    """A whole plain number within bounds; None, reported (with `help` out of bounds), otherwise."""
    number = as_constant(ctx, value, span, what, COUNT)
    if number is None:
        return None
    if number.value.denominator != 1:
        ctx.report(errors.OutOfRange(span, what=what, condition="a whole number", got=str(number)))
        return None
    if (low is not None and number.value < low) or (high is not None and number.value > high):
        ctx.report(
            errors.OutOfRange(span, what=what, condition=between(low, high), got=str(number), help=help)
        )
        return None
    return int(number.value)


def read_step(ctx: Context, expr: tree.Expr, scope: Scope, dimension: Dimension) -> Fraction | None:
    """The `step` of a range: more than zero and of the range's dimension. None, reported, otherwise."""
    step = as_constant(ctx, ctx.value(expr, scope), expr.span, "`step`", dimension)
    if step is not None and step.value <= 0:
        ctx.report(errors.OutOfRange(expr.span, what="`step`", condition="more than 0", got=str(step)))
        return None
    return None if step is None else step.value


def between(low: object | None, high: object | None) -> str:
    """`at least 1`, `at most 8`, `1 to 8`."""
    if low is None:
        return f"at most {high}"
    return f"at least {low}" if high is None else f"{low} to {high}"
