"""`frontier f of s = sweep(chat.throughput, 1x..3x, points: 20)`."""

from __future__ import annotations

from puzzledsl.base.diagnostics import Span
from puzzledsl.checker.context import Context
from puzzledsl.checker.declarations.common import (
    arguments_of,
    call_of,
    check_parts,
    head,
    scope_about,
    space_info,
    target_later,
)
from puzzledsl.checker.declarations.search import searched_space
from puzzledsl.checker.diagnostics import type_errors as types
from puzzledsl.checker.diagnostics.name_errors import Misplaced
from puzzledsl.checker.expressions.arithmetic import comparable
from puzzledsl.checker.expressions.coercions import as_number
from puzzledsl.checker.expressions.linear import batch_is_no_ratio
from puzzledsl.checker.expressions.search_values import Symbolic
from puzzledsl.checker.expressions.settings import Entry, Settings
from puzzledsl.checker.expressions.terms import to_linear
from puzzledsl.checker.expressions.values import Poison, RangeValue, Symbol, Value, describe
from puzzledsl.checker.spaces.space_info import guessed
from puzzledsl.ir import nodes
from puzzledsl.language.kinds import KINDS


def lower_frontier(ctx: Context, symbol: Symbol) -> nodes.Frontier | None:
    """`frontier f of s = sweep(chat.throughput, 1x..3x, points: 20)`."""
    check_parts(ctx, symbol)
    of = target_later(ctx, symbol)
    space = searched_space(ctx, of) if of is not None else None
    info = space_info(ctx, space) if space is not None else None
    scope = scope_about(ctx, symbol, info or guessed(symbol.name))
    call = call_of(ctx, symbol)
    if call is None:
        return None
    scoped = call.scope.inner(scope.names)
    settings = arguments_of(ctx, symbol, call)
    settings.need("metric", "range", help=f"write `{KINDS['frontier'].form}`")
    for key in ("metric", "range"):
        if settings.has(key):
            entry = settings.entry(key)
            settings.entries[key] = Entry(entry.expr, scoped, entry.span)
    points, children = settings.read("points"), settings.read("children")
    if not settings.has("metric") or not settings.has("range"):
        return None
    swept, span = settings.value("metric"), settings.place("metric")
    term = _swept(ctx, swept, span)
    ends = _ends(ctx, settings, swept, span)
    if term is None or ends is None or of is None or info is None:
        return None
    if ends.low.form == "times" and isinstance(term, nodes.MetricTerm) and term.metric == "batch":
        batch_is_no_ratio(ctx, settings.place("range"), "write numbers, such as `8..64`")
        return None
    return nodes.Frontier(
        **head(ctx, symbol, of),
        term=term,
        low=ends.low.value,
        high=ends.high.value,
        times_parent=ends.low.form == "times",
        points=points,
        children=children,
    )


def _swept(ctx: Context, value: Value, span: Span) -> nodes.Term | None:
    if isinstance(value, Poison):
        return None
    number = as_number(ctx, value, span, "what a frontier sweeps")
    if number is None:
        return None
    linear = to_linear(number) if isinstance(number, Symbolic) else nodes.Linear(terms=())
    if len(linear.terms) != 1 or linear.terms[0].coefficient != 1 or linear.constant:
        got = f"`{ctx.source(span)}`"
        help = "name it alone: `chat.throughput`, `params`, `kl`, `sum(ffn.width)`"
        wanted = "one metric, score, sum or count"
        ctx.report(types.WrongType(span, what="what a frontier sweeps", wanted=wanted, got=got, help=help))
        return None
    return linear.terms[0].term


def _ends(ctx: Context, settings: Settings, swept: Value, swept_span: Span) -> RangeValue | None:
    found, span = settings.value("range"), settings.place("range")
    if isinstance(found, Poison):
        return None
    if not isinstance(found, RangeValue):
        help = "write `1x..3x`, or `20ms..80ms`"
        got = describe(found)
        ctx.report(types.WrongType(span, what="what is swept over", wanted="a range", got=got, help=help))
        return None
    if found.step is not None:
        help = "say how many: `sweep(chat.throughput, 1x..3x, points: 9)`"
        ctx.report(Misplaced(span, what="`step`", where="a sweep", help=help))
        return None
    number = as_number(ctx, swept, swept_span, "what a frontier sweeps")
    if number is not None and not comparable(ctx, "sweep", number, found.low, swept_span, span, span):
        return None
    if (found.low.form == "times") != (found.high.form == "times"):
        left, right = describe(found.low), describe(found.high)
        ctx.report(types.UnlikeSum(span, op="..", left=left, right=right))
        return None
    if found.low.value >= found.high.value:
        what, got = "the upper end of a sweep", f"{found.low}..{found.high}"
        ctx.report(types.OutOfRange(span, what=what, condition="above the lower", got=got))
        return None
    return found
