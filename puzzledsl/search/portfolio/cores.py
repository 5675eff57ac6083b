"""CP-SAT on the whole problem: columns that reduced costs leave, the proven bounds on the sum, the best answer as a hint."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from puzzledsl.search.cpsat.model import symmetry_of
from puzzledsl.search.cpsat.solve import Answer, canonical_answer, run_cpsat
from puzzledsl.search.effort import Effort
from puzzledsl.search.portfolio.ledger import Ledger

NAME = "CP-SAT"


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
        ledger, known = self.ledger, self.ledger.value
        if known is None or ledger.lower < known:
            found = self._better(effort)
            if found.proven and found.chosen is None and (self.canonical or known is None):
                ledger.raise_lower(ledger.most, NAME)
                return True
            if not found.proven and not ledger.close_enough():
                return False
        if self.canonical and ledger.chosen is not None and ledger.value == ledger.lower:
            first = canonical_answer(ledger.problem, ledger.bound, ledger.chosen, ledger.effort)
            ledger.better(first, ledger.value, NAME)
        return ledger.value is None or ledger.close_enough()

    def _better(self, effort: Effort) -> Answer:
        """Minimise among answers that are as good as the best known one.

        If the canonical answer is wanted, the known one itself is excluded: to prove that there is no other one is easier than to
        prove first that it is best and then that it is the only best.
        """
        ledger = self.ledger
        keep = ledger.bound.within(ledger.most)
        if not ledger.problem.columns.covers(keep):
            return Answer(None, None, True)
        core, before = ledger.problem.only(keep), ledger.value
        hint = None
        if ledger.chosen is not None:
            hint = (np.cumsum(keep) - 1)[ledger.chosen].astype(np.int64)
            if self.canonical and not symmetry_of(core):
                core = core.with_rows(core.apart_from(ledger.problem.choice(ledger.chosen), 1))
        found = run_cpsat(core, effort, hint, ledger.lower, before if before is not None else ledger.at_most)
        if found.chosen is not None:
            chosen = keep.nonzero()[0][found.chosen].astype(np.int64)
            ledger.better(chosen, ledger.problem.goal.of(chosen), NAME)
        if found.bound is not None:
            ledger.raise_lower(found.bound if before is None else min(found.bound, before), NAME)
        return found


def slice_of(effort: Effort, work: float) -> Effort:
    """Return the effort of one turn: `work` deterministic seconds, one worker and seed 0, so that its result is deterministic."""
    left = work if effort.work is None else min(work, effort.work)
    return replace(effort, work=left, workers=1, seed=0)
