"""CP-SAT on a core: the columns that the bound leaves (reduced-cost fixing), grown until nothing outside can matter."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from puzzledsl.search.cpsat import Answer, Effort, run_cpsat
from puzzledsl.search.first import first_of_the_best
from puzzledsl.search.instance import Ints, Mask
from puzzledsl.search.ledger import Ledger
from puzzledsl.search.symmetry import symmetry_of

NAME = "CP-SAT"
FIRST_CORE = 4  # columns a layer, on average, of the first core where no answer is known
WIDER = 3  # times as many columns for the next core


@dataclass(slots=True, eq=False)
class Cores:
    """The engine."""

    ledger: Ledger
    canonical: bool

    def run(self, effort: Effort) -> bool:
        """Search for as long as an effort says; True where the best answer is proven, the first of the best, or none."""
        ledger = self.ledger
        if self.canonical and self._only_best(effort):
            return True
        proven = ledger.value is not None and ledger.lower >= ledger.value
        if not proven and not self._grow(effort):
            return False
        if self.canonical and ledger.chosen is not None and ledger.value == ledger.lower:
            first = first_of_the_best(ledger.problem, ledger.bound, ledger.chosen, ledger.effort)
            ledger.better(first, ledger.value, NAME)
        return True

    def _only_best(self, effort: Effort) -> bool:
        """True where no other answer is as good as the one known: proven in one go, which is easier than to prove it best first
        and the only one then. Keeps a better one, or one as good, that is found instead."""
        ledger = self.ledger
        if ledger.chosen is None or ledger.value is None:
            return False
        keep = ledger.bound.within(ledger.value)
        core = ledger.problem.only(keep)
        if symmetry_of(core) is not None:
            return False  # to tell one answer from the others would tell alike layers apart
        apart = core.apart_from(ledger.problem.choice(ledger.chosen), 1)
        found = run_cpsat(core.with_rows(apart), effort, at_least=ledger.lower, at_most=ledger.value)
        if found.proven and found.chosen is None:
            ledger.raise_lower(ledger.value, NAME)
            return True
        before = ledger.value
        if found.chosen is not None:
            self._keep(keep, found.chosen)
        if found.bound is not None:
            ledger.raise_lower(min(found.bound, before), NAME)
        return False

    def _grow(self, effort: Effort) -> bool:
        """Grow the core until no column outside it can be in a better answer than the one found inside."""
        ledger, bound = self.ledger, self.ledger.bound
        limit = self._limit(FIRST_CORE * ledger.problem.columns.layers)
        while True:
            keep = bound.within(limit)
            found = self._inside(keep, effort)
            if found.chosen is not None:
                self._keep(keep, found.chosen)
            outside = bound.beyond(keep)
            inside = found.bound if found.bound is not None else (None if found.proven else ledger.lower)
            bounds = [b for b in (inside, outside) if b is not None]
            if found.proven and ledger.value is None and (outside is None or limit >= ledger.top):
                return True
            lower = min(bounds, default=ledger.lower if ledger.value is None else ledger.value)
            ledger.raise_lower(lower if ledger.value is None else min(lower, ledger.value), NAME)
            if ledger.value is not None and (ledger.lower >= ledger.value or ledger.close_enough()):
                return True
            if not found.proven or effort.left_s <= 0 or outside is None:
                return False
            limit = self._limit(WIDER * int(keep.sum()))

    def _inside(self, keep: Mask, effort: Effort) -> Answer:
        ledger = self.ledger
        if not ledger.problem.columns.covers(keep):
            return Answer(None, None, True)
        hint = None
        if ledger.chosen is not None and keep[ledger.chosen].all():
            hint = (np.cumsum(keep) - 1)[ledger.chosen].astype(np.int64)
        return run_cpsat(ledger.problem.only(keep), effort, hint, ledger.lower, ledger.at_most)

    def _keep(self, keep: Mask, found: Ints) -> None:
        chosen = keep.nonzero()[0][found].astype(np.int64)
        self.ledger.better(chosen, self.ledger.problem.goal.of(chosen), NAME)

    def _limit(self, columns: int) -> int:
        """A sum below which there are about `columns` columns, or the best known one where that is known; no answer of interest
        is above it where it is the ledger's top."""
        ledger, bound = self.ledger, self.ledger.bound
        if ledger.value is not None:
            return ledger.value
        slack = np.sort(bound.slack)
        at = int(slack[min(columns, len(slack) - 1)])
        return int(min(-(-(bound.exact + at) // bound.scale), ledger.top))


def slice_of(effort: Effort, work: float) -> Effort:
    """A turn of so much deterministic work, for one worker and one seed: what it finds hangs on nothing else."""
    left = work if effort.work is None else min(work, effort.work)
    return replace(effort, work=left, workers=1, seed=0)
