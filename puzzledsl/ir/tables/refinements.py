"""Children that were measured around a search's answer, or along a frontier."""

from __future__ import annotations

from typing import Literal

from puzzledsl.base.frozen import Frozen
from puzzledsl.ir.base import Artefact
from puzzledsl.ir.tables.answers import LayerAssignment, Solution


class MeasuredChild(Frozen):
    """Child that was built, healed and measured.

    `predicted`, with its standard error, is the prediction of the score model before the measurement; `measured` is its score.
    Both are in the unit of the score.

    `origin`: "optimum" of the search's scores, a baseline's child ("uniform", "block_influence", "angular_run"), the optimum of
    refitted scores ("model"), of scores drawn around these ("drawn"), a change of a child measured before ("mutated"), or, at a
    point of a frontier, a child that was measured at another point or for the search ("elsewhere"), and predicted there.
    """

    layers: tuple[LayerAssignment, ...]
    origin: Literal[
        "optimum", "uniform", "block_influence", "angular_run", "model", "drawn", "mutated", "elsewhere"
    ]
    predicted: float
    predicted_stderr: float
    measured: float


class Refinement(Artefact):
    """`build/refined/SEARCH.json`: children measured around the optimum of the scores, in the order measured.

    At a point of a frontier, children that were measured elsewhere and meet its requirements come after its own.
    `solution` is the best measured child, which nothing proves; its objective and metrics are the search's own, verified.
    `proven` is the objective of the search's optimum. `model_optimum` is the optimum of the refitted scores, and
    `model_prediction` their prediction for it.
    """

    search: str
    score: str
    metric: str
    healed: int
    samples: int
    children: tuple[MeasuredChild, ...]
    solution: Solution
    parent_metrics: dict[str, float] = {}
    model_optimum: tuple[LayerAssignment, ...]
    model_prediction: float
    proven: float

    def __post_init__(self) -> None:
        """Refuse an answer that was not measured."""
        super().__post_init__()
        if all(child.layers != self.solution.layers for child in self.children):
            raise ValueError("the solution of a refinement is one of the children that were measured")

    @property
    def best(self) -> MeasuredChild:
        """The child of the solution."""
        return next(child for child in self.children if child.layers == self.solution.layers)

    @property
    def here(self) -> tuple[MeasuredChild, ...]:
        """The children that were measured for this bound, not elsewhere."""
        return tuple(child for child in self.children if child.origin != "elsewhere")

    @property
    def optimum(self) -> MeasuredChild | None:
        """The optimum of the search's scores; None where it was not measured."""
        return next((child for child in self.children if child.origin == "optimum"), None)


class RefinedPoint(Frozen):
    """The children that were measured at one point of a frontier, whose bound is `target`, or `ratio` of the parent's.

    Without a `refinement` no child meets the bound.
    """

    target: float
    ratio: float | None = None
    refinement: Refinement | None = None


class RefinedFrontier(Artefact):
    """`build/refined/FRONTIER.json`: measured children at every point of a frontier, in sweep order."""

    frontier: str
    search: str
    points: tuple[RefinedPoint, ...]
