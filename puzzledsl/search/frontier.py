"""Epsilon-constraint method (Haimes et al. 1971): a search solved at several bounds of one metric, for the Pareto front."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Literal

from puzzledsl.base.progress import Progress, Silent
from puzzledsl.ir.metric_records import METRICS
from puzzledsl.ir.nodes import (
    Frontier,
    Linear,
    LinearRequirement,
    MetricTerm,
    Program,
    Requirement,
    Search,
    Term,
    WeightedTerm,
)
from puzzledsl.ir.tables import CostTable, FrontierPoint, FrontierResult, ScoreTable, SearchResult
from puzzledsl.search.problem.problem import Builder
from puzzledsl.search.problem.rows import bound_of
from puzzledsl.search.solve import solve_built
from puzzledsl.search.tables import tables_of


def solve_frontier(
    program: Program,
    frontier: str,
    costs: CostTable,
    scores: Mapping[str, ScoreTable],
    progress: Progress | None = None,
) -> FrontierResult:
    """Solve the frontier's search at each bound, which replaces the search's own bounds on the swept metric.

    Points are in sweep order; infeasible ones have no explanation. Raises DiagnosticError if a table is missing.
    """
    here, progress = program.frontiers[frontier], progress or Silent()
    search = program.searches[here.search]
    swept = [point_search(search, here, target) for target in targets(here)]
    program = program.model_copy(update={"searches": {**program.searches, search.name: swept[0]}})
    builder = Builder(tables_of(program, search.name, costs, scores))
    progress.start(f"frontier {frontier}", here.points)
    points = []
    for target, at_point in zip(targets(here), swept, strict=True):
        here_builder = builder.for_search(at_point)
        result = solve_built(here_builder, Silent(), explained=False)
        absolute = float(_in_base_units(here_builder, here, target, result))
        ratio = float(target) if here.times_parent else None
        points.append(FrontierPoint(target=absolute, ratio=ratio, result=result))
        progress.advance(1, status=result.status)
    return FrontierResult(frontier=frontier, search=here.search, points=tuple(points))


def targets(frontier: Frontier) -> list[Fraction]:
    """Return the frontier's bounds, evenly spaced from low to high inclusive."""
    steps = max(1, frontier.points - 1)
    return [frontier.low + (frontier.high - frontier.low) * i / steps for i in range(frontier.points)]


def point_search(search: Search, frontier: Frontier, target: Fraction) -> Search:
    """Return the search with the swept metric bounded by `target`, and a single solution."""
    op = direction(search, frontier.term)
    bounded = LinearRequirement(
        left=_alone(frontier.term),
        op=op,
        bound=None if frontier.times_parent else target,
        parent_ratio=target if frontier.times_parent else None,
        where=frontier.where,
        bound_where=frontier.where,
    )
    kept = tuple(r for r in search.requirements if not _bounds(r, frontier.term, op))
    return search.model_copy(update={"requirements": (*kept, bounded), "solutions": 1})


def direction(search: Search, term: Term) -> Literal["<=", ">="]:
    """Return the operator by which a frontier bounds its swept term.

    It is that of the search's own requirement on the term, if there is one; else ">=" for throughput and batch, "<=" for others.
    """
    for requirement in search.requirements:
        if isinstance(requirement, LinearRequirement) and requirement.left == _alone(term):
            if requirement.op in (">=", ">"):
                return ">="
            if requirement.op in ("<=", "<"):
                return "<="
    return ">=" if isinstance(term, MetricTerm) and METRICS[term.metric].better != "less" else "<="


def _alone(term: Term) -> Linear:
    return Linear(terms=(WeightedTerm(coefficient=Fraction(1), term=term),))


def _bounds(requirement: Requirement, term: Term, op: str) -> bool:
    """True if a requirement bounds exactly the swept term, in the direction `op` or by equality."""
    return (
        isinstance(requirement, LinearRequirement)
        and requirement.left == _alone(term)
        and requirement.op in (op, op[0], "==")
    )


def _in_base_units(builder: Builder, frontier: Frontier, target: Fraction, result: SearchResult) -> Fraction:
    """Return a point's bound in base units.

    A ratio is multiplied by the parent's value at the solution's batches, or at the smallest batches without a solution.
    """
    if not frontier.times_parent:
        return target
    batches = next(builder.tables.batch_choices())
    if result.solutions:
        batches = {name: result.solutions[0].batches[name] for name in builder.tables.scenarios}
    requirement = builder.tables.search.requirements[-1]
    assert isinstance(requirement, LinearRequirement)
    return bound_of(builder, requirement, batches)
