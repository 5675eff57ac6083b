"""Refine a frontier: at each bound, measure the optimum of the scores, the children of baseline rules, and further proposals.

Bounds are close together, so a child measured at one of them often meets others, too, and may be their best.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from puzzledsl.base.progress import Progress
from puzzledsl.checker.declarations.refines import refine_of
from puzzledsl.ir.nodes import Program, Search
from puzzledsl.ir.tables import (
    BldJob,
    CostTable,
    FrontierResult,
    RefinedFrontier,
    RefinedPoint,
    Refinement,
    ScoreTable,
)
from puzzledsl.pieces.store.library import Library
from puzzledsl.refining.candidates import Candidates
from puzzledsl.refining.elsewhere import with_elsewhere
from puzzledsl.refining.measuring import Meter
from puzzledsl.refining.run import refined
from puzzledsl.search.frontier import point_search, targets


def run_refine_frontier(
    program: Program,
    frontier: str,
    result: FrontierResult,
    costs: CostTable,
    scores: Mapping[str, ScoreTable],
    parent_dir: Path,
    base: Path,
    library: Library,
    jobs: Sequence[BldJob],
    work: Path,
    progress: Progress,
    *,
    around: Refinement | None = None,
) -> RefinedFrontier:
    """Measure `children` at every point of a solved frontier, as `run_refine` does for a search.

    A child measured for the search or at another point is not measured again. It is a candidate for the best child of every point
    whose requirements it meets. Points without a solution have no refinement. `around`: the children measured for the search
    with the present settings.

    Raises DiagnosticError: missing tables, pieces or text.
    """
    here = program.frontiers[frontier]
    search = program.searches[here.search]
    refine = refine_of(here, search)
    score = program.scores[Candidates(program, search.name, costs, scores).score]
    work.mkdir(parents=True, exist_ok=True)
    meter = Meter(program, search.name, score, refine, jobs, parent_dir, base, library, work, progress)
    progress.start(f"refine {frontier}", refine.children * here.points)
    measured: list[tuple[Candidates, Refinement] | None] = []
    for target, point in zip(targets(here), result.points, strict=True):
        if point.result.solutions:
            at_point = _with(program, point_search(search, here, target))
            candidates = Candidates(at_point, search.name, costs, scores)
            found = refined(at_point, search.name, refine, point.result, candidates, meter, progress)
            measured.append((candidates, found))
        else:
            progress.advance(refine.children)
            measured.append(None)
    points = [
        RefinedPoint(target=point.target, ratio=point.ratio, refinement=refinement)
        for point, refinement in zip(result.points, with_elsewhere(measured, around), strict=True)
    ]
    return RefinedFrontier(frontier=frontier, search=search.name, points=tuple(points))


def _with(program: Program, search: Search) -> Program:
    return program.model_copy(update={"searches": {**program.searches, search.name: search}})
