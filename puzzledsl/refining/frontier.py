"""Refine a frontier: at each bound, measure the optimum of the scores, the children of baseline rules, and further proposals.

Bounds are close together, so a child measured at one of them often meets others, too, and may be their best.
"""

from __future__ import annotations

from collections.abc import Sequence

from puzzledsl.ir.references import judged_by, refine_of
from puzzledsl.ir.tables import (
    FrontierResult,
    RefinedFrontier,
    RefinedPoint,
    Refinement,
)
from puzzledsl.refining.candidates import Candidates
from puzzledsl.refining.elsewhere import with_elsewhere
from puzzledsl.refining.inputs import RefineInputs
from puzzledsl.refining.run import meter_of, refined
from puzzledsl.search.frontier import point_search, targets


def run_refine_frontier(
    inputs: RefineInputs, frontier: str, result: FrontierResult, around: Refinement | None = None
) -> RefinedFrontier:
    """Measure `children` at every point of a solved frontier, as `run_refine` does for a search.

    A child measured for the search or at another point is not measured again. It is a candidate for the best child of every point
    whose requirements it meets. Points without a solution have no refinement. `around`: the children measured for the search
    with the present settings.

    Raises DiagnosticError: missing tables, pieces or text.
    """
    here = inputs.program.frontiers[frontier]
    search = inputs.program.searches[inputs.search]
    search = search.model_copy(update={"refine": refine_of(here, search)})
    inputs = inputs.with_search(search)
    children = inputs.refine.children
    inputs.work.mkdir(parents=True, exist_ok=True)
    meter = meter_of(inputs, inputs.candidates())
    inputs.progress.start(f"refine {frontier}", children * here.points)
    measured: list[tuple[Candidates, Refinement] | None] = []
    for target, point in zip(targets(here), result.points, strict=True):
        if point.result.solutions:
            at_point = inputs.with_search(point_search(search, here, target))
            candidates = at_point.candidates()
            measured.append((candidates, refined(at_point, point.result, candidates, meter)))
        else:
            inputs.progress.advance(children)
            measured.append(None)
    found: Sequence[Refinement | None] = [point and point[1] for point in measured]
    if not judged_by(search):  # children of other points would have to be compared by more than their loss
        found = with_elsewhere(measured, around)
    points = [
        RefinedPoint(target=point.target, ratio=point.ratio, refinement=refinement)
        for point, refinement in zip(result.points, found, strict=True)
    ]
    return RefinedFrontier(frontier=frontier, search=search.name, points=tuple(points))
