"""The layers of a child by a method: an optimum, or the best of children that are measured on the spot."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.child_methods import SEARCH, Method, Question, Refined
from puzzledsl import refining
from puzzledsl.base.progress import Silent
from puzzledsl.ir.tables import BldJob, LayerAssignment, Refinement, Solution
from puzzledsl.pieces.store.library import Library
from puzzledsl.refining.inputs import RefineInputs
from puzzledsl.refining.run import run_refine
from puzzledsl.refining.surrogate import Surrogate
from puzzledsl.search.tables import tables_of


@dataclass(frozen=True)
class Inputs:
    """All that children are measured with. `seed` draws the text and the children."""

    seed: int
    parent_dir: Path
    base: Path
    library: Library
    jobs: Sequence[BldJob]
    work: Path


@dataclass(frozen=True)
class Chosen:
    """A solution with the parent's metrics, and the loss that the model of scores gives it.

    `speed`: the metric that is the child's speed.
    """

    status: str
    solution: Solution
    parent_metrics: dict[str, float]
    predicted: float
    speed: str
    refinement: Refinement | None = None

    def as_json(self) -> dict[str, Any]:
        """The fields of a child's record. `speed` and `params` are shares of the parent's, by the cost table."""
        now, before = self.solution.metrics, self.parent_metrics
        return {
            "objective": self.solution.objective,
            "predicted": self.predicted,
            "speed": now[self.speed] / before[self.speed],
            "params": now["params"] / before["params"],
            "layers": [f"{c.attention}/{c.ffn}" for c in self.solution.layers],
            **({} if self.refinement is None else _as_json(self.refinement)),
        }


def choose(method: Method | Refined, question: Question, inputs: Inputs) -> Chosen | str:
    """A method's child; the search's status where it has none."""
    if isinstance(method, Refined):
        return _refined(method, question, inputs)
    result = method(question)
    if not result.solutions:
        return result.status
    best = result.solutions[0]
    return Chosen(result.status, best, result.parent_metrics, best.metrics[question.score], question.speed)


def _refined(method: Refined, question: Question, inputs: Inputs) -> Chosen | str:
    result = method.first(question)
    if not result.solutions:
        return result.status
    program = method.program(question)
    blds = {name: bld.model_copy(update={"seed": inputs.seed}) for name, bld in program.blds.items()}
    given = RefineInputs(
        program.model_copy(update={"blds": blds}),
        SEARCH,
        question.costs,
        question.scores,
        inputs.parent_dir,
        inputs.base,
        inputs.library,
        inputs.jobs,
        inputs.work,
        Silent(),
        inputs.work / "figures.jsonl",
    )
    refinement = run_refine(given, result)
    predicted = _predicted(method, question, refinement)
    return Chosen(
        "measured", refinement.solution, refinement.parent_metrics, predicted, question.speed, refinement
    )


def _predicted(method: Refined, question: Question, refinement: Refinement) -> float:
    """The chosen child's loss by the scores, refitted to all children where the method refits them."""
    if method.method == "evolutionary":
        return refinement.solution.metrics[refinement.score]
    tables = tables_of(question.program, SEARCH, question.costs, question.scores)
    surrogate = Surrogate(question.scores[refinement.score], tables.dropped())
    for child in refinement.children:
        surrogate.tell(child.layers, child.measured)
    return surrogate.predict(refinement.solution.layers)[0]


def _as_json(refinement: Refinement) -> dict[str, Any]:
    """Measurements of a refinement. `model_optimum` is null where the refitted model's optimum is not among the children."""
    losses: dict[tuple[LayerAssignment, ...], float] = {c.layers: c.measured for c in refinement.children}
    return {
        "measured": losses[refinement.solution.layers],
        "children": [
            {"origin": c.origin, "predicted": c.predicted, "measured": c.measured}
            for c in refinement.children
        ],
        "model_prediction": refinement.model_prediction,
        "model_optimum": losses.get(refinement.model_optimum),
    }


def refining_code() -> str:
    """Digest of the package that proposes and measures: other code, other children."""
    files = sorted(Path(next(iter(refining.__path__))).glob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
