"""Refine a frontier: at each bound, measure the optimum of the scores, the children of baseline rules, and further proposals.

Bounds are close together, so a child measured at one of them often meets others, too, and may be their best.

Reuse children measured for other points of a frontier or for its search, at every point whose requirements they meet.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from puzzledsl.ir.references import judged_by, refine_of
from puzzledsl.ir.tables import FrontierResult, MeasuredChild, RefinedFrontier, RefinedPoint, Refinement
from puzzledsl.refining.candidates import Candidates
from puzzledsl.refining.inputs import RefineInputs
from puzzledsl.refining.run import meter_of, refined
from puzzledsl.search.frontier import point_search, targets


def with_elsewhere(
    points: Sequence[tuple[Candidates, Refinement] | None], search: Refinement | None
) -> list[Refinement | None]:
    """Add to each point the children measured elsewhere that meet its requirements; its solution is the best of all its children.

    `points`: (candidates, refinement) of each point, None for one without a solution. `search`: children measured around the
    search's optimum, healed and measured as the points' are. They are added first, then those of the points, in order.
    """
    measured = [search, *(point[1] for point in points if point is not None)]
    known = [child for refinement in measured if refinement is not None for child in refinement.children]
    return [None if point is None else _completed(*point, known) for point in points]


def _completed(candidates: Candidates, here: Refinement, known: Iterable[MeasuredChild]) -> Refinement:
    """Add the children of `known` that meet a point's requirements, each once. Of equally good children the first is the best."""
    children, best, solution = list(here.children), here.best.measured, here.solution
    seen = {child.layers for child in children}
    for child in known:
        if child.layers in seen:
            continue
        seen.add(child.layers)
        found = candidates.meeting(child.layers, here.solution.batches)
        if found is None:
            continue
        children.append(child.model_copy(update={"origin": "elsewhere"}))
        if child.measured < best:
            best, solution = child.measured, found
    return Refinement.model_validate({**dict(here), "children": tuple(children), "solution": solution})


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
