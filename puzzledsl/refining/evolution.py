"""(1 + lambda) evolution of measured children (EvoPress: Sieberling et al. 2025, arXiv 2410.14649), a rival of `proposals`.

Each generation measures mutants of one parent (`mutation`), all of which meet every requirement. The best of the parent and its
offspring is the next parent. Two differences from the paper:

- The first parent is the optimum of the search's scores, in place of the best of random children. This favours evolution.
- Every child is measured on all of the text. The paper's multi-step selection drops most offspring on little text first, which
  pays where a generation has many. Generations are small here, for the same end.
"""

from __future__ import annotations

import numpy as np

from puzzledsl.ir.nodes import ScoreTerm
from puzzledsl.ir.tables import Solution
from puzzledsl.refining.candidates import Candidates
from puzzledsl.refining.mutation import Layers, Mutation
from puzzledsl.refining.proposals import Origin, Proposal
from puzzledsl.search.metrics import Child

OFFSPRING = 2
"""Children of a generation: figures have no noise that a large one would average out."""
TRIES = 2000
"""Mutants in a row that bring nothing new before there is nothing left to propose."""


class Evolution:
    """Proposes the search's optimum, then mutants of the best child so far; same figures and seed, same children."""

    def __init__(
        self, candidates: Candidates, optimum: Solution, seed: int, offspring: int = OFFSPRING
    ) -> None:
        """`optimum`: the search's own answer, proposed first."""
        self._candidates, self._optimum, self._offspring = candidates, optimum, offspring
        tables = candidates.tables
        self._mutation = Mutation(tables.layers, tables.costs)
        self._generator = np.random.default_rng(seed)
        self._proposed: dict[Layers, Solution] = {}
        self._parent = optimum
        self._parents_loss = np.inf
        self._brood: list[tuple[float, Solution]] = []

    def next(self) -> Proposal | None:
        """A child that was not proposed before; None where mutants of the best one bring nothing new."""
        if not self._proposed:
            return self._as_proposal(self._optimum)
        if len(self._brood) >= self._offspring:
            self._select()
        found = self._mutant()
        if found is None and self._select():  # a parent without enough offspring ends its generation early
            found = self._mutant()
        return None if found is None else self._as_proposal(found)

    def tell(self, child: Layers, loss: float) -> None:
        """Take a measured loss into account."""
        solution = self._proposed[child]
        if child == self._optimum.layers:
            self._parents_loss = loss
        else:
            self._brood.append((loss, solution))

    def predict(self, child: Layers) -> tuple[float, float]:
        """The sum of the scores: nothing is refitted, and no error is known."""
        score = ScoreTerm(score=self._candidates.score)
        return float(Child(self._candidates.tables, child, {}).term(score)), 0.0

    def model_optimum(self) -> Solution:
        """The best child by the scores, which stay as they are."""
        return self._optimum

    def _select(self) -> bool:
        """End the generation: True where the parent is another. Offspring as good as the parent replaces it."""
        before = self._parent
        if self._brood:
            loss, best = min(self._brood, key=lambda child: child[0])
            if loss <= self._parents_loss:
                self._parents_loss, self._parent = loss, best
        self._brood = []
        return self._parent is not before

    def _mutant(self) -> Solution | None:
        """A mutant of the parent that is new and meets every requirement."""
        for _ in range(TRIES):
            layers = self._mutation.mutant(self._parent.layers, self._generator)
            if layers in self._proposed:
                continue
            if (found := self._candidates.meeting(layers, self._parent.batches)) is not None:
                return found
        return None

    def _as_proposal(self, solution: Solution) -> Proposal:
        self._proposed[solution.layers] = solution
        origin: Origin = "optimum" if solution is self._optimum else "mutated"
        return Proposal(solution, origin, *self.predict(solution.layers))
