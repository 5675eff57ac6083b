"""`pzl solve`: solve a search from its tables, with a proof and an independent verification."""

from __future__ import annotations

from collections.abc import Mapping

from puzzledsl.base.progress import Progress, Silent
from puzzledsl.ir.nodes import Program
from puzzledsl.ir.tables import CostTable, ScoreTable, SearchResult
from puzzledsl.search.answer import result_of, several
from puzzledsl.search.effort import Effort
from puzzledsl.search.problem.problem import Builder
from puzzledsl.search.tables import tables_of

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
    builder: Builder, progress: Progress, *, workers: int = 1, explain: bool = True
) -> SearchResult:
    """Solve the search of a builder, whose inputs are checked already. `explain`: explain infeasibility."""
    tables = builder.tables
    search, problems = tables.search, builder.all()
    progress.start(f"solving {search.name}", 1)
    time_s, gap = float(search.solver.time_s), float(search.solver.gap)
    effort = Effort.of(
        time_s - min(FOR_VERIFYING_S, FOR_VERIFYING * time_s), gap, search.solver.seed, workers
    )
    found = several(problems, search.solutions, search.apart, effort)
    result = result_of(tables, found, "cpsat", gap)
    if result.status == "infeasible" and explain:
        from puzzledsl.search.infeasible.explain import explained

        result = explained(problems, result, effort)
    progress.advance(1, status=result.status)
    progress.log(
        "solved", search=search.name, status=result.status, objective=result.objective, bound=result.bound
    )
    return result
