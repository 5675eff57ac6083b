"""Lint of bounds in the wrong direction: on the better side of a metric, and met by the parent.

A search that bounds the same metric from both sides asks for a range and is not reported.
"""

from __future__ import annotations

from puzzledsl.checker.context import Context
from puzzledsl.checker.diagnostics.lints import WrongWayRound
from puzzledsl.checker.lints.vacuous import span_of
from puzzledsl.ir import nodes
from puzzledsl.ir.metric_records import METRICS

_TURNED = {"<=": ">=", ">=": "<=", "<": ">", ">": "<"}


def warn_of_direction(ctx: Context, program: nodes.Program) -> None:
    """Report upper bounds on throughput, and lower bounds on costs and parameters, that the parent meets."""
    for search in program.searches.values():
        bounds = [r for r in search.requirements if isinstance(r, nodes.LinearRequirement)]
        sides = {(bound.left, bound.op[0]) for bound in bounds}
        for requirement in bounds:
            other = "<" if requirement.op[0] == ">" else ">"
            if _is_wrong_way_round(requirement) and (requirement.left, other) not in sides:
                what, bound = requirement.where.text, requirement.bound_where.text
                error = WrongWayRound(
                    span_of(ctx, requirement.bound_where),
                    bound=f"{what} {requirement.op} {bound}",
                    direction="more" if requirement.op[0] == "<" else "less",
                    what=what,
                    instead=f"{what} {_TURNED[requirement.op]} {bound}",
                )
                ctx.report(error)


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
