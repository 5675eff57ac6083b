"""Reuse children measured for other points of a frontier or for its search, at every point whose requirements they meet."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from puzzledsl.ir.tables import MeasuredChild, Refinement
from puzzledsl.refining.candidates import Candidates


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
