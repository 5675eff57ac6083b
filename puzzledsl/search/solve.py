"""`pzl solve`: solve a search from its tables, with a proof and an independent verification."""

from __future__ import annotations

from collections.abc import Mapping

from puzzledsl.base.progress import Progress, Silent
from puzzledsl.ir.nodes import Baseline, CpSat, Program
from puzzledsl.ir.tables import CostTable, ScoreTable, SearchResult
from puzzledsl.search.answer import result_of
from puzzledsl.search.baselines.baselines import BASELINE_S, solve_baseline
from puzzledsl.search.batches.exact import several
from puzzledsl.search.effort import Effort
from puzzledsl.search.problem.problem import Builder, Problems
from puzzledsl.search.tables import tables_of

FOR_CONFLICT = (
    0.6  # share of the time left that naming the conflict may take; the rest is for the smallest relaxation
)
# Share of a search's time that is reserved for its last step and the verification, and its limit in seconds.
FOR_VERIFYING, FOR_VERIFYING_S = 0.1, 0.5


def solve_search(
    program: Program,
    search: str,
    costs: CostTable,
    scores: Mapping[str, ScoreTable],
    progress: Progress | None = None,
    *,
    workers: int = 1,
) -> SearchResult:
    """Choose an alternative for every sub-block of every layer. Every solution is verified before it is returned.

    `status` is "optimal" only if that is proven (within the search's gap); "infeasible" comes with a minimal conflict. With gap 0
    the answer does not depend on the seed or on `workers`, CP-SAT's number of threads. Raises DiagnosticError if a table is
    missing or incomplete.
    """
    tables = tables_of(program, search, costs, scores)
    return solve_built(Builder(tables), progress or Silent(), workers=workers)


def solve_built(
    builder: Builder, progress: Progress, *, workers: int = 1, explained: bool = True
) -> SearchResult:
    """Solve the search of a builder, whose inputs are checked already. `explained`: explain infeasibility."""
    tables = builder.tables
    search, problems = tables.search, builder.all()
    progress.start(f"solving {search.name}", 1)
    match search.solver:
        case CpSat(time_s=time_s, gap=gap, seed=seed):
            kept = min(FOR_VERIFYING_S, FOR_VERIFYING * float(time_s))
            effort = Effort.of(float(time_s) - kept, float(gap), seed, workers)
            found = several(tables, problems, search.solutions, search.apart, effort)
            result = result_of(tables, found, "cpsat", float(gap))
        case Baseline() as baseline:
            effort = Effort.of(BASELINE_S, 0.0, baseline.seed, workers)
            result, problems = solve_baseline(builder, problems, baseline, effort)
    if result.status == "infeasible" and explained:
        result = _explained(builder, problems, result, effort)
    progress.advance(1, status=result.status)
    progress.log(
        "solved", search=search.name, status=result.status, objective=result.objective, bound=result.bound
    )
    return result


def _explained(builder: Builder, problems: Problems, result: SearchResult, effort: Effort) -> SearchResult:
    """Add the conflict and, unless the solver is a baseline, the smallest relaxation to an infeasible result.

    Both use the time that is left of the search's own.
    """
    from puzzledsl.search.infeasible.explain import explain
    from puzzledsl.search.infeasible.relax import smallest_relaxation

    conflict = explain(builder, problems, effort.share(FOR_CONFLICT))
    relaxation = None
    if isinstance(builder.tables.search.solver, CpSat) and effort.left_s > 0:
        relaxation = smallest_relaxation(builder, conflict, effort)
    explained = {"conflict": conflict.items, "conflict_minimal": conflict.minimal, "relaxation": relaxation}
    return result.model_copy(update=explained)
