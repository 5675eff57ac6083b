"""`pzl solve`: solve a search from its tables, with a proof and an independent verification; or export its CP-SAT model."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

from puzzledsl.base.progress import Progress, Silent
from puzzledsl.ir.nodes import Program
from puzzledsl.ir.tables import CostTable, ScoreTable, SearchResult
from puzzledsl.search.answer import result_of, several
from puzzledsl.search.batches import best_of
from puzzledsl.search.cpsat.solve import model_of
from puzzledsl.search.problem.box import Box
from puzzledsl.search.problem.instance import Effort
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


def cpsat_model(program: Program, search: str, costs: CostTable, scores: Mapping[str, ScoreTable]) -> bytes:
    """Return a serialised `CpModelProto` of a search, complete. The same inputs give the same bytes.

    It has one Boolean for every column, named `layer/attention/ffn`. If a score has runs of dropped layers, `layer/noop/noop#k`
    is the k-th layer of its run. The objective is in integers and minimised; one that is maximised is negated.

    If the search chooses batches, the model is that of the best answer's batches, or of the smallest if none is found.
    Preferences and distances between several solutions are not in it. Raises DiagnosticError if a table is missing.
    """
    from ortools.sat.python.cp_model_helper import CpSatHelper

    problems = Builder(tables_of(program, search, costs, scores)).all()
    box = problems.boxes[0]
    if len(problems.boxes) > 1 or not box.is_single:
        found = best_of(problems, Effort.of(float(problems.tables.search.solver.time_s)))
        box = Box.at(box.lows if found.layers is None else found.batches)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "model.pb"  # any other suffix would write text
        if not CpSatHelper.write_model_to_file(model_of(problems.at(box)), str(path)):
            raise OSError(f"cannot write {path}")
        return path.read_bytes()
