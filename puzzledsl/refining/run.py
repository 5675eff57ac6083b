"""`pzl refine`: measure children around a search's optimum and refit the scores to them.

The search proves the optimum of a sum of scores, but a child's real loss is not a sum. Here whole children are assembled, healed
and measured, and each measured loss informs the next proposal. Every child is verified to meet every requirement. The result is
the best child that was measured; it is not proven optimal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import assert_never

from puzzledsl.base.progress import Progress
from puzzledsl.ir.nodes import Program, Refine
from puzzledsl.ir.tables import (
    BldJob,
    CostTable,
    MeasuredChild,
    Refinement,
    ScoreTable,
    SearchResult,
    Solution,
)
from puzzledsl.pieces.store.library import Library
from puzzledsl.refining.candidates import Candidates
from puzzledsl.refining.evolution import Evolution
from puzzledsl.refining.measuring import Meter
from puzzledsl.refining.proposals import Proposals, Proposer


def run_refine(
    program: Program,
    search: str,
    result: SearchResult,
    costs: CostTable,
    scores: Mapping[str, ScoreTable],
    parent_dir: Path,
    base: Path,
    library: Library,
    jobs: Sequence[BldJob],
    work: Path,
    progress: Progress,
    figures: Path | None = None,
) -> Refinement:
    """Measure `refine.children` children of a solved search. Children measured by an earlier run are not measured again.

    `figures`: file of measured losses, in place of the one in the build directory.

    Raises DiagnosticError: missing tables, pieces or text. ValueError for a search without `refine` or without a solution.
    """
    refine = program.searches[search].refine
    if refine is None or not result.solutions:
        raise ValueError(f"search {search} has nothing to refine")
    candidates = Candidates(program, search, costs, scores)
    score = program.scores[candidates.score]
    work.mkdir(parents=True, exist_ok=True)
    meter = Meter(program, search, score, refine, jobs, parent_dir, base, library, work, progress, figures)
    progress.start(f"refine {search}", refine.children)
    return refined(program, search, refine, result, candidates, meter, progress)


def refined(
    program: Program,
    search: str,
    refine: Refine,
    result: SearchResult,
    candidates: Candidates,
    meter: Meter,
    progress: Progress,
) -> Refinement:
    """Propose and measure children until there are `refine.children` of them or no new one is proposed."""
    optimum = result.solutions[0]
    proposals = _proposer(refine, candidates, optimum, _seed(program, candidates.score))
    measured: list[MeasuredChild] = []
    best: tuple[float, Solution] | None = None
    while len(measured) < refine.children and (proposal := proposals.next()) is not None:
        loss = meter.loss(proposal.solution)
        proposals.tell(proposal.solution.layers, loss)
        if best is None or loss < best[0]:
            best = loss, proposal.solution
        measured.append(proposal.measured(loss))
        progress.advance(1, measured=loss, best=best[0])
    progress.advance(refine.children - len(measured))
    assert best is not None, "the optimum is proposed first"
    model_optimum = proposals.model_optimum() or optimum
    return Refinement(
        search=search,
        score=candidates.score,
        metric=meter.metric,
        healed=refine.healed,
        samples=meter.samples(),
        children=tuple(measured),
        solution=best[1],
        parent_metrics=result.parent_metrics,
        model_optimum=model_optimum.layers,
        model_prediction=proposals.predict(model_optimum.layers)[0],
        proven=optimum.objective,
    )


def _proposer(refine: Refine, candidates: Candidates, optimum: Solution, seed: int) -> Proposer:
    match refine.method:
        case "measured":
            return Proposals(candidates, optimum, seed)
        case "evolutionary":
            return Evolution(candidates, optimum, seed)
        case _:
            assert_never(refine.method)


def _seed(program: Program, score: str) -> int:
    bld = program.scores[score].bld
    return 0 if bld is None else program.blds[bld].seed
