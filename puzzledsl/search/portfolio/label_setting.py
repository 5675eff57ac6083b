"""Iterative deepening of label setting: the limit on the objective grows, so the first answer found is the best.

Labels with dominance and completion bounds for the resource-constrained shortest path (Irnich & Desaulniers 2005); suffixes over
the last layers are looked up in a table (meet in the middle).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from puzzledsl.search.label_setting.sweep import Sweep, sweep_of
from puzzledsl.search.lagrangian.bound import Bound
from puzzledsl.search.portfolio.ledger import Ledger, bound_enough
from puzzledsl.search.problem.columns import Ints
from puzzledsl.search.problem.instance import Problem

NAME = "label setting"
BEAM = 100  # labels per layer of a beam search for a first answer
FIRST_CORE = 4  # average columns per layer of the first sweep, if no answer is known
FIRST_REACH = 0.03  # first limit, as a share of the way from the bound to the first known answer
FURTHER = 2  # growth of the reach from one sweep to the next
FAR = 4  # the same, if no answer is known


@dataclass(slots=True, eq=False)
class LabelSetting:
    """The label-setting engine of the portfolio. `usable`: False if integers or formulas are too large for it.

    `sweep`: the one in progress, for answers with sums up to `most`, on the columns `origin`.
    """

    ledger: Ledger
    usable: bool = True
    reach: int = 0
    most: int = 0
    sweep: Sweep | None = None
    origin: Ints = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    def __post_init__(self) -> None:
        ledger, bound = self.ledger, self.ledger.bound
        if ledger.at_most is not None:
            self.reach = max(0, ledger.at_most - bound.value)
        elif ledger.value is not None:
            self.reach = int((ledger.value - bound.value) * FIRST_REACH)
        else:
            slack = np.sort(bound.slack)
            at = int(slack[min(FIRST_CORE * ledger.problem.columns.layers, len(slack) - 1)])
            self.reach = max(1, min(-(-at // bound.scale), ledger.top - bound.value))

    def run(self, labels: int) -> bool:
        """Extend about `labels` more labels. Return True if the ledger's answer is then proven."""
        ledger = self.ledger
        # another engine's bound is far beyond the sweep in progress: sweeps from the root's bound are hopeless
        self.usable &= self.sweep is None or self.most + self.reach >= ledger.lower
        while self.usable and labels > 0 and ledger.effort.left_s > 0:
            if self.sweep is None:
                self.most = self._next_most()
                if self.most >= ledger.lower:  # else there is nothing to find
                    keep, deadline = ledger.bound.within(self.most), ledger.effort.deadline
                    problem, self.origin = ledger.problem.only(keep), keep.nonzero()[0]
                    self.sweep = sweep_of(problem, ledger.bound, self.most, ledger.value, deadline=deadline)
                    self.usable = self.sweep is not None
            if self.sweep is not None:
                labels -= self._continue(self.sweep, labels)
            if self.sweep is not None or not self.usable:
                return False
            if self._ended():
                return True
        return False

    def _continue(self, sweep: Sweep, labels: int) -> int:
        """Continue a sweep for `labels` labels. Return the number of labels used, at least 1."""
        if self.ledger.value is not None:
            sweep.tighten(self.ledger.value)
        before, swept = sweep.done, sweep.run(labels)
        self.ledger.take(swept, self.origin, NAME)
        if swept.proven:
            self.sweep = None
        elif swept.bound is not None:
            self.ledger.raise_lower(swept.bound, NAME)
            self.usable = not sweep.is_full
        return max(sweep.done - before, 1)

    def _ended(self) -> bool:
        """Return True if a finished sweep proves the answer; else increase the reach of the next one."""
        ledger = self.ledger
        if ledger.value is not None and ledger.value <= self.most:
            ledger.raise_lower(ledger.value, NAME)
            return True
        if self.most >= ledger.top and ledger.value is None:
            return True
        ledger.raise_lower(self.most + 1, NAME)
        if ledger.effort.gap and ledger.close_enough():
            return True
        self.reach = int(self.reach * (FAR if ledger.value is None else FURTHER)) + 1
        return False

    def _next_most(self) -> int:
        """Return the next limit: `reach` above the bound, or less if a proof, within the gap, needs no more."""
        ledger = self.ledger
        most = ledger.bound.value + self.reach
        if ledger.value is None or not ledger.effort.gap:
            return min(most, ledger.most)
        goal, bound = ledger.problem.goal, ledger.bound.value
        enough = bound_enough(goal, ledger.value, bound, ledger.effort.gap) - 1
        return enough if most + self.reach >= enough else most


def beam(ledger: Ledger, problem: Problem, bound: Bound, origin: Ints, by: str) -> int:
    """Look for a better answer by beam search, which proves nothing. Return the number of labels."""
    known = ledger.top + 1 if ledger.value is None else ledger.value
    deadline = ledger.effort.deadline
    sweep = sweep_of(problem, bound, ledger.top, known, width=BEAM, deadline=deadline)
    if sweep is None:
        return 0
    ledger.take(sweep.run(), origin, by)
    return sweep.done
