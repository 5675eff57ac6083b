"""Elements that `for` iterates over, and its `where` condition."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from math import floor

from puzzledsl.base.diagnostics import Span
from puzzledsl.base.units import COUNT, Quantity
from puzzledsl.checker.context import Context
from puzzledsl.checker.diagnostics import name_errors, type_errors
from puzzledsl.checker.expressions.search_values import Layers
from puzzledsl.checker.expressions.values import (
    Boolean,
    ListValue,
    Options,
    Poison,
    RangeValue,
    Scope,
    Value,
    describe,
)
from puzzledsl.checker.limits import MAX_INSTANCES
from puzzledsl.syntax import tree

STEPS = 2
"""Steps of work counted for one element of a loop, in addition to its body's."""


def iterate(ctx: Context, collection: Value, span: Span) -> Iterator[Value]:
    """Yield the elements of a range, list, choice or set of layers; report anything else and yield nothing."""
    for element in _elements(ctx, collection, span):
        ctx.spend(span, STEPS)
        yield element


def _elements(ctx: Context, collection: Value, span: Span) -> Iterator[Value]:
    match collection:
        case Poison():
            return
        case Layers(single=False):
            yield from (Layers(collection.space, (i,), single=True) for i in collection.indices)
        case ListValue(items=items):
            yield from items
        case Options(options=options):
            yield from (o.value for o in options)
        case RangeValue(low=low, high=high) if low.dimension == COUNT and low.value.denominator == 1:
            step = collection.step or Fraction(1)
            count = floor((high.value - low.value) / step) + 1
            if count > MAX_INSTANCES:
                ctx.report(name_errors.TooMuch(span, what="this range", limit=f"{MAX_INSTANCES:,} steps"))
                return
            yield from (Quantity(low.value + i * step) for i in range(count))
        case _:
            wanted = "a range of whole numbers, a list or layers"
            got = describe(collection)
            ctx.report(type_errors.WrongType(span, what="what `for` goes through", wanted=wanted, got=got))


def passes(ctx: Context, where: tree.Expr | None, scope: Scope) -> bool:
    """Return the value of a `where` condition; report one that is not a constant truth value and return False."""
    if where is None:
        return True
    value = ctx.value(where, scope)
    if isinstance(value, Boolean):
        return value.value
    if not isinstance(value, Poison):
        wanted, got = "true or false", describe(value)
        ctx.report(type_errors.WrongType(where.span, what="what follows `where`", wanted=wanted, got=got))
    return False
