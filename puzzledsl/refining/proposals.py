"""The next child to measure: Thompson sampling over a linear model of the loss, each draw solved exactly.

The first proposals are the optimum of the original scores, the best child with the same block in every layer, and the children of
two rules that drop layers. They show which entries the sum overrates and underrates. After them, proposals alternate between the
optimum of the refitted scores and optima of scores drawn around these (Thompson sampling: Russo et al. 2018, arXiv 1707.02038).
Draws have less spread than the posterior: wide draws propose far worse children, which teach the model little about the best.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from puzzledsl.ir.tables import Assignment, MeasuredChild, Solution
from puzzledsl.refining.candidates import Candidates
from puzzledsl.refining.surrogate import Surrogate

Origin = Literal["optimum", "uniform", "block_influence", "angular_run", "model", "drawn"]
SPREAD = 0.25
"""Standard deviation of draws as a fraction of the posterior's."""
TURN = 3
"""Every TURN-th proposal is the optimum of the refitted scores; the others are drawn."""
TRIES = 20
"""Proposals end after this many draws in a row without a new child."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """A child to measure, with its predicted loss (mean and standard deviation)."""

    solution: Solution
    origin: Origin
    predicted: float
    stderr: float

    def measured(self, loss: float) -> MeasuredChild:
        """Return the record of the child with its measured loss."""
        return MeasuredChild(
            layers=self.solution.layers,
            origin=self.origin,
            predicted=self.predicted,
            predicted_stderr=self.stderr,
            measured=loss,
        )


class Proposals:
    """Thompson sampling over a `Surrogate`. Deterministic for given losses and seed."""

    def __init__(self, candidates: Candidates, optimum: Solution, seed: int) -> None:
        """Start from `optimum`, the search's own solution, which is proposed first."""
        self._candidates = candidates
        self.surrogate = Surrogate(candidates.table, candidates.tables.dropped())
        self._generator = np.random.default_rng(seed)
        self._first: list[tuple[Solution, Origin]] = [(optimum, "optimum")]
        self._first += [(solution, rule) for rule, solution in candidates.baselines()]
        self._seen: set[tuple[Assignment, ...]] = set()
        self._turn = 0

    def next(self) -> Proposal | None:
        """Return a child that was not proposed before; None if TRIES draws bring none."""
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

    def tell(self, child: tuple[Assignment, ...], loss: float) -> None:
        """Refit the scores to the measured loss of a child too."""
        self.surrogate.tell(child, loss)

    def predict(self, child: tuple[Assignment, ...]) -> tuple[float, float]:
        """Return the expected loss by the refitted scores and its standard deviation."""
        return self.surrogate.predict(child)

    def model_optimum(self) -> Solution | None:
        """Return the optimum of the refitted scores."""
        return self._candidates.optimum(self.surrogate.table())

    def _proposed(self, solution: Solution, origin: Origin) -> Proposal:
        self._seen.add(solution.layers)
        return Proposal(solution, origin, *self.surrogate.predict(solution.layers))
