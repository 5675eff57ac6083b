"""Lints of bounds that contradict each other, and of bounds on the better side of a metric that the parent meets."""

from __future__ import annotations

from fractions import Fraction

from puzzledsl.base.diagnostics import Args, Label
from puzzledsl.base.frozen import record
from puzzledsl.base.units import COUNT, Dimension, format_quantity
from puzzledsl.checker.context import Context
from puzzledsl.checker.diagnostics.lints import ExcludeEachOther, WrongWayRound
from puzzledsl.checker.expressions.comparisons import FLIPPED
from puzzledsl.checker.expressions.terms import UNITS
from puzzledsl.checker.lints.vacuous import at_parent, is_reachable
from puzzledsl.ir import nodes
from puzzledsl.ir.logic import unbounded
from puzzledsl.ir.metric_records import METRICS

_DIMENSIONS: dict[str, Dimension] = {name: dimension for dimension, name in UNITS.items()}
POSITIVE = (nodes.MetricTerm, nodes.ParamsTerm)
"""Terms of which the parent's value is above zero, so that multiples of it are in the order of their factors."""


@record
class _End:
    """One end of the interval that a requirement allows: its value, whether it is excluded, and its text in messages."""

    value: Fraction
    strict: bool
    text: str


Ends = tuple[_End | None, _End | None]
"""The lower and the upper end; None where there is none."""


def warn_of_exclusive(ctx: Context, program: nodes.Program, impossible: set[nodes.Where]) -> None:
    """Report every bound that leaves nothing of what an earlier one on the same quantity allows.

    The bounds at the places `impossible` exclude every child by themselves, and are reported for that already.
    """
    for search in program.searches.values():
        shape = program.parents[program.spaces[search.space].parent].shape
        tightest: dict[tuple[object, int], tuple[Ends, nodes.Where]] = {}
        for requirement in search.requirements:
            bound = _bound(ctx, requirement, shape)
            if bound is None or bound[2] in impossible:
                continue
            about, ends, where = bound
            for side in (0, 1):
                earlier = tightest.get((about, side))
                if earlier is not None and (apart := _apart(earlier[0], ends)) is not None:
                    _report(ctx, program.spaces[search.space], earlier[1], where, *apart)
                    break
            for side, sign in ((0, 1), (1, -1)):
                end, known = ends[side], tightest.get((about, side), ((None, None), where))[0][side]
                if end is not None and (known is None or sign * end.value > sign * known.value):
                    tightest[about, side] = ends, where


def _report(
    ctx: Context, space: nodes.Space, earlier: nodes.Where, where: nodes.Where, low: _End, high: _End
) -> None:
    span, other = ctx.span_of(where), ctx.span_of(earlier)
    beside = [Label(other, "the other bound")] if other != span and other.file == span.file else []
    said: Args = {"space": space.name, "low": low.text, "high": high.text}
    ctx.report(ExcludeEachOther(span, secondary=beside, **said))


def _apart(one: Ends, two: Ends) -> tuple[_End, _End] | None:
    """The lower and the upper end that leave no value between them; None where some value meets both bounds."""
    for low, high in ((one[0], two[1]), (two[0], one[1])):
        if low is None or high is None or low.value < high.value:
            continue
        if low.value > high.value or low.strict or high.strict:
            return low, high
    return None


# ---------------------------------------------------------------- what requirements bound


def _bound(
    ctx: Context, requirement: nodes.Requirement, shape: nodes.Shape
) -> tuple[object, Ends, nodes.Where] | None:
    """Return the quantity that a requirement bounds, the interval and the place; None for one that bounds nothing."""
    match requirement:
        case nodes.LinearRequirement(left=left, op=op, bound=bound, unit=unit, parent_ratio=ratio):
            found = ctx.once(_of_linear, left, op, bound, unit, ratio, shape)
            return None if found is None else (*found, requirement.bound_where)
        case nodes.LogicRequirement(
            formula=(nodes.Runs() | nodes.Longest() | nodes.Distinct()) as figure, where=where
        ):
            least, most = figure.at_least, figure.at_most
            low = _End(Fraction(least), False, f"at least {least}") if least > 0 else None
            high = None if most is None else _End(Fraction(most), False, f"at most {most}")
            return unbounded(figure), (low, high), where
        case nodes.LogicRequirement():
            return None


def _of_linear(
    left: nodes.Linear, op: str, bound: Fraction | None, unit: str, ratio: Fraction | None, shape: nodes.Shape
) -> tuple[object, Ends] | None:
    lead = min(left.terms, key=lambda weighted: repr(weighted.term)).coefficient
    terms = frozenset((weighted.term, weighted.coefficient / lead) for weighted in left.terms)
    value, multiple = bound, False
    if ratio is not None and is_reachable(left):
        value = ratio * at_parent(left, shape)
    elif ratio is not None:
        value, multiple = ratio, True
        positive = all(isinstance(w.term, POSITIVE) and w.coefficient > 0 for w in left.terms)
        if not positive or left.constant:
            return None
    assert value is not None
    scaled = value if multiple else (value - left.constant) / lead
    text = f"{float(value):.6g}x" if multiple else format_quantity(scaled, _DIMENSIONS.get(unit, COUNT), 6)
    strict, below = op in ("<", ">"), (op[0] == "<") != (lead < 0 and not multiple)
    low = _End(scaled, strict, f"{'more than' if strict else 'at least'} {text}")
    high = _End(scaled, strict, f"{'less than' if strict else 'at most'} {text}")
    return (terms, multiple), (None if below and op != "==" else low, high if below or op == "==" else None)


# ---------------------------------------------------------------- the wrong way round


def warn_of_direction(ctx: Context, program: nodes.Program) -> None:
    """Report upper bounds on throughput, and lower bounds on costs and parameters, that the parent meets.

    A search that bounds the same metric from both sides asks for a range and is not reported.
    """
    for search in program.searches.values():
        bounds = [r for r in search.requirements if isinstance(r, nodes.LinearRequirement)]
        sides = {(bound.left, bound.op[0]) for bound in bounds}
        for requirement in bounds:
            other = "<" if requirement.op[0] == ">" else ">"
            if _is_wrong_way_round(requirement) and (requirement.left, other) not in sides:
                what, bound = requirement.where.text, requirement.bound_where.text
                said: Args = {
                    "bound": f"{what} {requirement.op} {bound}",
                    "direction": "more" if requirement.op[0] == "<" else "less",
                    "what": what,
                    "instead": f"{what} {FLIPPED[requirement.op]} {bound}",
                }
                ctx.report(WrongWayRound(ctx.span_of(requirement.bound_where), **said))


def _is_wrong_way_round(requirement: nodes.LinearRequirement) -> bool:
    """True for a multiple of the parent's that the parent meets and that only better children miss."""
    ratio, left = requirement.parent_ratio, requirement.left
    if ratio is None or len(left.terms) != 1 or left.constant or left.terms[0].coefficient != 1:
        return False
    match left.terms[0].term:
        case nodes.MetricTerm(metric=metric) if METRICS[metric].better == "more":
            return ratio >= 1 if requirement.op == "<=" else requirement.op == "<" and ratio > 1
        case nodes.MetricTerm() | nodes.ParamsTerm():
            return ratio <= 1 if requirement.op == ">=" else requirement.op == ">" and ratio < 1
        case _:
            return False
