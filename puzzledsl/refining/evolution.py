"""(1 + lambda) evolution of measured children (EvoPress: Sieberling et al. 2025, arXiv 2410.14649); a rival of `proposals`.

Each generation measures mutants (`mutation`) of one parent; all of them meet every requirement. The best of the parent and its
offspring is the next parent. Two differences from the paper:

- The first parent is the optimum of the search's scores, in place of the best of random children. This favours evolution.
- Every child is measured on all of the text. The paper's multi-step selection discards most offspring on little text first,
  which pays off in large generations. Small generations, as here, save measurements too.
"""

from __future__ import annotations

import numpy as np

from puzzledsl.ir.nodes import ScoreTerm
from puzzledsl.ir.tables import Solution
from puzzledsl.refining.candidates import Candidates
from puzzledsl.refining.mutation import Layers, Mutation
from puzzledsl.refining.proposals import Origin, Proposal
from puzzledsl.search.problem.metrics import Child

OFFSPRING = 2
"""Children in a generation. Measured losses are deterministic, so a large generation would average out nothing."""
TRIES = 2000
"""Evolution ends after this many mutants in a row that are known already or violate a requirement."""


class Evolution:
    """Proposes the search's optimum, then mutants of the best child so far. Deterministic for given losses and seed."""

    def __init__(
        self, candidates: Candidates, optimum: Solution, seed: int, offspring: int = OFFSPRING
    ) -> None:
        """Start from `optimum`, the search's own solution, which is proposed first."""
        self._candidates, self._optimum, self._offspring = candidates, optimum, offspring
        tables = candidates.tables
        self._mutation = Mutation(tables.layers, tables.costs)
        self._generator = np.random.default_rng(seed)
        self._proposed: dict[Layers, Solution] = {}
        self._parent = optimum
        self._parents_loss = np.inf
        self._brood: list[tuple[float, Solution]] = []

    def next(self) -> Proposal | None:
        """Return a child that was not proposed before; None if TRIES mutants of the best child bring none."""
        if not self._proposed:
            return self._as_proposal(self._optimum)
        if len(self._brood) >= self._offspring:
            self._select()
        found = self._mutant()
        if found is None and self._select():  # a parent without enough offspring ends its generation early
            found = self._mutant()
        return None if found is None else self._as_proposal(found)

    def tell(self, child: Layers, loss: float) -> None:
        """Record the measured loss of a proposed child."""
        solution = self._proposed[child]
        if child == self._optimum.layers:
            self._parents_loss = loss
        else:
            self._brood.append((loss, solution))

    def predict(self, child: Layers) -> tuple[float, float]:
        """Return (score of the child, 0): evolution refits nothing and knows no standard deviation."""
        score = ScoreTerm(score=self._candidates.score)
        return float(Child(self._candidates.tables, child, {}).term(score)), 0.0

    def model_optimum(self) -> Solution:
        """Return the optimum of the original scores, since evolution refits none."""
        return self._optimum

    def _select(self) -> bool:
        """End the generation. Return True if the parent changed; offspring as good as the parent replaces it."""
        before = self._parent
        if self._brood:
            loss, best = min(self._brood, key=lambda child: child[0])
            if loss <= self._parents_loss:
                self._parents_loss, self._parent = loss, best
        self._brood = []
        return self._parent is not before

    def _mutant(self) -> Solution | None:
        """Return a mutant of the parent that is new and meets every requirement; None after TRIES failures."""
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
