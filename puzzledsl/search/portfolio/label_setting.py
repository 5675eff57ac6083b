"""Iterative deepening of label setting: the limit on the objective grows, so the first answer found is the best.

Labels with dominance and completion bounds for the resource-constrained shortest path (Irnich & Desaulniers 2005); suffixes over
the last layers are looked up in a table (meet in the middle).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from puzzledsl.search.label_setting.sweep import Sweep, Swept, sweep_of
from puzzledsl.search.lagrangian.bound import Bound
from puzzledsl.search.portfolio.ledger import Ledger, bound_enough
from puzzledsl.search.problem.columns import Ints, Mask
from puzzledsl.search.problem.instance import Problem

NAME = "label setting"
BEAM = 100  # labels per layer of a beam search for a first answer
FIRST_CORE = 4  # average columns per layer of the first sweep, if no answer is known
FIRST_REACH = 0.03  # first limit, as a share of the way from the bound to the first known answer
FURTHER = 2  # growth of the reach from one sweep to the next
FAR = 4  # the same, if no answer is known


@dataclass(slots=True, eq=False)
class _Current:
    """A sweep in progress for answers with sums up to `most`, on the columns in `keep`. `labels`: number used so far."""

    most: int
    keep: Mask
    sweep: Sweep
    labels: int = 0


@dataclass(slots=True, eq=False)
class LabelSetting:
    """The label-setting engine of the portfolio. `usable`: False if integers or formulas are too large for it."""

    ledger: Ledger
    usable: bool = True
    reach: int = -1
    current: _Current | None = None

    def run(self, labels: int) -> bool:
        """Extend about `labels` more labels. Return True if the ledger's answer is then proven."""
        ledger = self.ledger
        self.reach = self._first_reach() if self.reach < 0 else self.reach
        # another engine's bound is far beyond the sweep in progress: sweeps from the root's bound are hopeless
        self.usable &= self.current is None or self.current.most + self.reach >= ledger.lower
        while self.usable and labels > 0 and ledger.effort.left_s > 0:
            if self.current is None:
                most = self._next_most()
                if most >= ledger.lower:
                    self.current = self._begin(most)
                    if self.current is None:
                        return False
            else:
                most = self.current.most
            if self.current is not None:
                labels -= self._continue(self.current, labels)
                if self.current is not None:
                    return False
            if self._ends_at(most):
                return True
        return False

    def _ends_at(self, most: int) -> bool:
        """Return True if a finished sweep up to `most` proves the answer; else increase the reach of the next one."""
        ledger = self.ledger
        if ledger.value is not None and ledger.value <= most:
            ledger.raise_lower(ledger.value, NAME)
            return True
        if most >= ledger.top and ledger.value is None:
            return True
        ledger.raise_lower(most + 1, NAME)
        if ledger.effort.gap and ledger.close_enough():
            return True
        self.reach = int(self.reach * (FAR if ledger.value is None else FURTHER)) + 1
        return False

    def _begin(self, most: int) -> _Current | None:
        ledger = self.ledger
        keep = ledger.bound.within(most)
        problem, deadline = ledger.problem.only(keep), ledger.effort.deadline
        sweep = sweep_of(problem, ledger.bound, most, known=ledger.value, deadline=deadline)
        if sweep is None:
            self.usable = False
            return None
        return _Current(most, keep, sweep)

    def _continue(self, current: _Current, labels: int) -> int:
        """Continue a sweep for `labels` labels. Return the number of labels used, at least 1."""
        if self.ledger.value is not None:
            current.sweep.tighten(self.ledger.value)
        swept = current.sweep.run(labels)
        kept(self.ledger, swept, current.keep.nonzero()[0])
        used, current.labels = swept.labels - current.labels, swept.labels
        if swept.complete:
            self.current = None
        elif swept.bound is not None:
            self.ledger.raise_lower(swept.bound, NAME)
            self.usable = not current.sweep.is_full
        return max(used, 1)

    def _next_most(self) -> int:
        """Return the next limit: `reach` above the bound, or less if a proof, within the gap, needs no more."""
        ledger = self.ledger
        most = ledger.bound.value + self.reach
        if ledger.value is None or not ledger.effort.gap:
            return min(most, ledger.most)
        goal, bound = ledger.problem.goal, ledger.bound.value
        enough = bound_enough(goal, ledger.value, bound, ledger.effort.gap) - 1
        return enough if most + self.reach >= enough else most

    def _first_reach(self) -> int:
        ledger = self.ledger
        if ledger.at_most is not None:
            return max(0, ledger.at_most - ledger.bound.value)
        if ledger.value is None:
            slack = np.sort(ledger.bound.slack)
            at = int(slack[min(FIRST_CORE * ledger.problem.columns.layers, len(slack) - 1)])
            return max(1, min(-(-at // ledger.bound.scale), ledger.top - ledger.bound.value))
        return int((ledger.value - ledger.bound.value) * FIRST_REACH)


def kept(ledger: Ledger, swept: Swept, origin: Ints, by: str = NAME) -> None:
    """Pass a sweep's answer to the ledger. `origin[column]`: the column's number in the ledger's problem."""
    if swept.chosen is not None and swept.value is not None:
        ledger.better(origin[swept.chosen].astype(np.int64), swept.value, by)


def beam(ledger: Ledger, problem: Problem, bound: Bound, origin: Ints, by: str) -> int:
    """Look for a better answer by beam search, which proves nothing. Return the number of labels."""
    known = ledger.top + 1 if ledger.value is None else ledger.value
    deadline = ledger.effort.deadline
    sweep = sweep_of(problem, bound, ledger.top, known=known, width=BEAM, deadline=deadline)
    if sweep is None:
        return 0
    swept = sweep.run()
    kept(ledger, swept, origin, by)
    return swept.labels
