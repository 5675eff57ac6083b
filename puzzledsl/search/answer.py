"""Verified solutions: exact objectives and metrics of the solvers' answers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Literal

from puzzledsl.ir.nodes import MetricTerm
from puzzledsl.ir.tables import LayerAssignment, SearchResult, Solution
from puzzledsl.search.batches.exact import Found
from puzzledsl.search.needs import terms_of
from puzzledsl.search.problem.metrics import Child, report
from puzzledsl.search.tables import Tables
from puzzledsl.search.verify.verify import verify


def solution_of(tables: Tables, layers: Sequence[LayerAssignment], batches: dict[str, int]) -> Solution:
    """Return the solution of chosen layers and batches with its objective and all metrics. It is not verified here."""
    child = Child(tables, tuple(layers), batches)
    all_batches, metrics = report(child)
    return Solution(
        objective=float(child.linear(tables.search.objective)),
        layers=child.layers,
        batches=all_batches,
        metrics=metrics,
    )


def result_of(tables: Tables, found: Sequence[Found], solver: str, gap: float) -> SearchResult:
    """Return the result of an exact solve, with every solution verified.

    `found`: answers from the best on. Raises RuntimeError if a solution is wrong, which is a bug of the solver.
    """
    first = found[0]
    solutions = tuple(checked(tables, f) for f in found if f.layers is not None)
    if not solutions or first.layers is None:
        status: Literal["infeasible", "unknown"] = "infeasible" if first.proven else "unknown"
        bound = None if status == "infeasible" or first.bound is None else float(first.bound)
        return SearchResult(
            search=tables.search.name, status=status, bound=bound, solver=solver, proved_by=first.proved_by
        )
    value = Child(tables, first.layers, first.batches).linear(tables.search.objective)
    reached = relative_gap(value, first.bound)
    optimal = all(f.proven for f in found) or (len(found) == 1 and reached is not None and reached <= gap)
    return SearchResult(
        search=tables.search.name,
        status="optimal" if optimal else "feasible",
        objective=solutions[0].objective,
        bound=None if first.bound is None else float(first.bound),
        gap=reached,
        solver=solver,
        found_by=first.found_by,
        proved_by=first.proved_by,
        solutions=solutions,
        parent_metrics=parent_metrics(tables, first),
    )


def heuristic_result(tables: Tables, found: Sequence[Found], solver: str, proven: bool) -> SearchResult:
    """Return the result of a baseline: "feasible" if it found an answer, else "infeasible" if `proven`, else "unknown"."""
    solutions = tuple(checked(tables, f) for f in found if f.layers is not None)
    if not solutions:
        return SearchResult(
            search=tables.search.name, status="infeasible" if proven else "unknown", solver=solver
        )
    return SearchResult(
        search=tables.search.name,
        status="feasible",
        objective=solutions[0].objective,
        solver=solver,
        solutions=solutions,
        parent_metrics=parent_metrics(tables, found[0]),
    )


def checked(tables: Tables, found: Found) -> Solution:
    """Return the solution of an answer, verified. Raises RuntimeError if it is wrong.

    A search without one of its requirements may have batches of scenarios that it no longer mentions: these are left out.
    """
    assert found.layers is not None
    mentioned = {term.scenario for term in terms_of(tables.search) if isinstance(term, MetricTerm)}
    batches = {name: found.batches[name] for name in tables.scenarios if name in mentioned}
    solution = solution_of(tables, found.layers, batches)
    inputs = tables.program, tables.search, tables.costs, tables.scores
    violations = verify(*inputs, solution, found.value)
    if violations:
        raise RuntimeError("the solver's answer is wrong: " + "; ".join(v.message for v in violations))
    return solution


def parent_metrics(tables: Tables, found: Found) -> dict[str, float]:
    """Return the parent's metrics at the batches of an answer."""
    assert found.layers is not None
    batches, _ = report(Child(tables, found.layers, found.batches))
    return report(Child(tables, found.layers, batches).parent())[1]


def relative_gap(value: Fraction, bound: Fraction | None) -> float | None:
    """Return |value - bound| / |value|: 0 if they are equal, None if there is no bound or the gap is not finite."""
    if bound is None:
        return None
    if value == bound:
        return 0.0
    gap = float(abs(value - bound) / abs(value)) if value else math.inf
    return gap if math.isfinite(gap) else None
