"""The next child to measure: Thompson sampling over a linear model of the loss, each draw solved exactly.

First the optimum of the scores as they are, the best child with the same block in every layer, and the children of two rules
that drop layers: they tell apart what the sum overrates and underrates. Then, in turn, the optimum of the refitted scores and
optima of scores drawn around them (Thompson sampling: Russo et al. 2018, arXiv 1707.02038). Draws spread less than the
posterior: wide ones propose children that are far worse, and what the model says of those does not help near the best.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from puzzledsl.ir.tables import LayerAssignment, MeasuredChild, Solution
from puzzledsl.refining.candidates import Candidates
from puzzledsl.refining.surrogate import Surrogate

Origin = Literal["optimum", "uniform", "block_influence", "angular_run", "model", "drawn", "mutated"]
SPREAD = 0.25
"""Of the posterior's standard deviation, what draws have."""
TURN = 3
"""One of so many proposals is the model's optimum; the others are drawn."""
TRIES = 20
"""Draws in a row that bring nothing new before there is nothing left to propose."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """A child to measure, and what is expected of it (mean and standard deviation)."""

    solution: Solution
    origin: Origin
    predicted: float
    stderr: float

    def measured(self, loss: float) -> MeasuredChild:
        """The record of its measurement."""
        return MeasuredChild(
            layers=self.solution.layers,
            origin=self.origin,
            predicted=self.predicted,
            predicted_stderr=self.stderr,
            measured=loss,
        )


class Proposer(Protocol):
    """A source of children to measure, which learns from what they measured."""

    def next(self) -> Proposal | None:
        """A child that was not proposed before; None where there is none."""

    def tell(self, child: tuple[LayerAssignment, ...], loss: float) -> None:
        """Take a measured loss into account."""

    def predict(self, child: tuple[LayerAssignment, ...]) -> tuple[float, float]:
        """The expected loss of a child and its standard deviation."""

    def model_optimum(self) -> Solution | None:
        """The best child by what `predict` says."""


class Proposals:
    """Proposes children until there is nothing new; same figures and seed, same children."""

    def __init__(self, candidates: Candidates, optimum: Solution, seed: int) -> None:
        """`optimum`: the search's own answer, proposed first."""
        self._candidates, self.surrogate = candidates, Surrogate(candidates.table)
        self._generator = np.random.default_rng(seed)
        self._first: list[tuple[Solution, Origin]] = [(optimum, "optimum")]
        self._first += [(solution, rule) for rule, solution in candidates.baselines()]
        self._seen: set[tuple[LayerAssignment, ...]] = set()
        self._turn = 0

    def next(self) -> Proposal | None:
        """A child that was not proposed before; None where the model has no other to offer."""
        while self._first:
            solution, origin = self._first.pop(0)
            if solution.layers not in self._seen:
                return self._proposed(solution, origin)
        if self._turn % TURN == 0 and (found := self.model_optimum()) is not None:
            self._turn += 1
            if found.layers not in self._seen:
                return self._proposed(found, "model")
        for _ in range(TRIES):
            drawn = self._candidates.optimum(self.surrogate.table(self._generator, SPREAD))
            if drawn is not None and drawn.layers not in self._seen:
                self._turn += 1
                return self._proposed(drawn, "drawn")
        return None

    def tell(self, child: tuple[LayerAssignment, ...], loss: float) -> None:
        """Take a measured loss into account."""
        self.surrogate.tell(child, loss)

    def predict(self, child: tuple[LayerAssignment, ...]) -> tuple[float, float]:
        """The expected loss by the refitted scores and its standard deviation."""
        return self.surrogate.predict(child)

    def model_optimum(self) -> Solution | None:
        """The best child by the refitted scores."""
        return self._candidates.optimum(self.surrogate.table())

    def _proposed(self, solution: Solution, origin: Origin) -> Proposal:
        self._seen.add(solution.layers)
        return Proposal(solution, origin, *self.surrogate.predict(solution.layers))
