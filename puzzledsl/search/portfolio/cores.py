"""Core problems (Balas & Zemel 1980) in CP-SAT: the columns with small slack, grown until no other can matter."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from puzzledsl.search.cpsat.canonical import canonical_answer
from puzzledsl.search.cpsat.solve import Answer, run_cpsat
from puzzledsl.search.effort import Effort
from puzzledsl.search.portfolio.ledger import Ledger
from puzzledsl.search.problem.columns import Ints, Mask
from puzzledsl.search.problem.symmetry import symmetry_of

NAME = "CP-SAT"
FIRST_CORE = 4  # average columns per layer in the first core, if no answer is known
WIDER = 3  # growth of the number of columns from one core to the next


@dataclass(slots=True, eq=False)
class Cores:
    """The CP-SAT engine of the portfolio."""

    ledger: Ledger
    canonical: bool

    def run(self, effort: Effort) -> bool:
        """Search within an effort.

        Return True if the ledger's answer is then proven: optimal (the first of the best if `canonical`), within the gap, or none
        exists.
        """
        ledger = self.ledger
        if self.canonical and self._only_best(effort):
            return True
        proven = ledger.value is not None and ledger.lower >= ledger.value
        if not proven and not self._grow(effort):
            return False
        if self.canonical and ledger.chosen is not None and ledger.value == ledger.lower:
            first = canonical_answer(ledger.problem, ledger.bound, ledger.chosen, ledger.effort)
            ledger.better(first, ledger.value, NAME)
        return True

    def _only_best(self, effort: Effort) -> bool:
        """Prove in one solve that no other answer is as good as the known one; True if it succeeds.

        This is easier than to prove first that it is best and then that it is unique. An answer that is found instead is kept.
        """
        ledger = self.ledger
        if ledger.chosen is None or ledger.value is None:
            return False
        keep = ledger.bound.within(ledger.value)
        core = ledger.problem.only(keep)
        if symmetry_of(core) is not None:
            return False  # excluding one answer would break the symmetry of interchangeable layers
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
        """Return the limit on sums that defines a core: the best known sum, else one that about `columns` columns can reach.

        It is at most the ledger's top, above which no answer counts.
        """
        ledger, bound = self.ledger, self.ledger.bound
        if ledger.value is not None:
            return ledger.value
        slack = np.sort(bound.slack)
        at = int(slack[min(columns, len(slack) - 1)])
        return int(min(-(-(bound.exact + at) // bound.scale), ledger.top))


def slice_of(effort: Effort, work: float) -> Effort:
    """Return the effort of one turn: `work` deterministic seconds, one worker and seed 0, so that its result is deterministic."""
    left = work if effort.work is None else min(work, effort.work)
    return replace(effort, work=left, workers=1, seed=0)
