"""Label setting, further above the bound each time, until there is an answer: that is the best, since there was none below.

Resource-constrained shortest paths by labels with dominance and completion bounds (Irnich & Desaulniers 2005; the ways through
the last layers are looked up, as where two searches meet in the middle).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from puzzledsl.search.gaps import bound_enough
from puzzledsl.search.instance import Ints, Mask
from puzzledsl.search.layered import Sweep, Swept, sweep_of
from puzzledsl.search.ledger import Ledger

NAME = "label setting"
FIRST_CORE = 4  # columns a layer, on average, that the first sweep has where no answer is known
FIRST_REACH = 0.1  # of the way from the bound to the first answer known, that is searched first
FURTHER = 1.6  # times as far the next time
FAR = 4  # times as far where no answer is known
DAMPED = 0.8  # of the growth of the number of labels, that goes on


@dataclass(slots=True, eq=False)
class _Current:
    """A sweep that is under way, of the answers up to `most` on the columns `keep`."""

    most: int
    keep: Mask
    sweep: Sweep
    labels: int = 0


@dataclass(slots=True, eq=False)
class LabelSetting:
    """The engine. `usable`: the numbers and formulas are small enough for it."""

    ledger: Ledger
    usable: bool = True
    reach: int = -1
    seen: list[tuple[int, int]] = field(default_factory=list)  # how far, and how many labels that took
    current: _Current | None = None

    def run(self, labels: int) -> bool:
        """Follow some more labels; True where the best answer is proven, the first of the best, or that there is none."""
        ledger = self.ledger
        self.reach = self._first_reach() if self.reach < 0 else self.reach
        while self.usable and labels > 0 and ledger.effort.left_s > 0:
            if self.current is None:
                most = self._next_most()
                if most >= ledger.lower and _foreseen(self.seen, most) > labels:
                    return False
                if most >= ledger.lower:
                    self.current = self._begin(most)
                    if self.current is None:
                        return False
            else:
                most = self.current.most
            if self.current is not None:
                used = self._go_on(self.current, labels)
                labels -= used
                if self.current is not None:
                    return False
            if self._ends_at(most):
                return True
        return False

    def _ends_at(self, most: int) -> bool:
        """True where a finished sweep up to `most` settles it; else the next one reaches further."""
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

    def _go_on(self, current: _Current, labels: int) -> int:
        """Some more labels of a sweep; how many were followed."""
        if self.ledger.value is not None:
            current.sweep.tighten(self.ledger.value)
        swept = current.sweep.run(labels)
        kept(self.ledger, swept, current.keep.nonzero()[0])
        used, current.labels = swept.models - current.labels, swept.models
        if swept.complete:
            self.seen.append((current.most, swept.models))
            self.current = None
        elif swept.bound is not None:
            self.ledger.raise_lower(swept.bound, NAME)
        return max(used, 1)

    def _next_most(self) -> int:
        """Reach of the next sweep: `reach` above the bound, no further than settles it. Where a gap will do and that is not
        twice as far, as far as settles it."""
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
    """Keep the answer of a sweep. `origin[column]`: its columns in the ledger's problem."""
    if swept.chosen is not None and swept.value is not None:
        ledger.better(origin[swept.chosen].astype(np.int64), swept.value, by)


def _foreseen(seen: list[tuple[int, int]], most: int) -> float:
    """About how many labels a sweep up to `most` takes, after those seen: their number grows exponentially, ever less so."""
    if len(seen) < 2:
        return 0.0
    (near, few), (far, many) = seen[-2:]
    growth = math.log(max(many, 1) / max(few, 1)) / max(far - near, 1)
    return many * math.exp(min(DAMPED * growth * (most - far), 50.0))
