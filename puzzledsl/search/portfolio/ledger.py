"""Incumbent and proven lower bound of a problem, shared by all engines of the portfolio."""

from __future__ import annotations

from bisect import bisect_left
from fractions import Fraction

import numpy as np

from puzzledsl.search.effort import Effort
from puzzledsl.search.lagrangian.bound import Bound
from puzzledsl.search.problem.columns import Ints
from puzzledsl.search.problem.instance import Goal, Outcome, Problem


class Ledger:
    """State of a search: best answer `chosen` of sum `value`, bound `lower`, and `top`, the largest sum that counts."""

    def __init__(
        self, problem: Problem, bound: Bound, effort: Effort, lower: int, at_most: int | None
    ) -> None:
        self.problem, self.bound, self.effort = problem, bound, effort
        self.lower, self.at_most = lower, at_most
        top = int(problem.columns.most(problem.goal.values).sum())
        self.top = top if at_most is None else min(top, at_most)
        self.chosen: Ints | None = None
        self.value: int | None = None
        self.found_by = ""
        self.lower_by = "Lagrangian bound"

    def better(self, chosen: Ints, value: int, by: str) -> None:
        """Keep an answer if it is better than the incumbent, or as good and before it in the order of the space."""
        if self.at_most is not None and value > self.at_most:
            return
        best = None if self.chosen is None else (self.value, *self.chosen.tolist())
        if best is not None and (value, *chosen.tolist()) >= best:
            return
        if self.value is None or value < self.value:
            self.found_by = by
        self.chosen, self.value = chosen, value

    def take(self, found: Outcome, origin: Ints, by: str) -> None:
        """Keep an engine's answer if it is better. `origin[column]`: number of the engine's column in this problem."""
        if found.chosen is not None and found.value is not None:
            self.better(origin[found.chosen].astype(np.int64), found.value, by)

    def raise_lower(self, lower: int, by: str) -> None:
        """Raise the lower bound to `lower`, proven by the engine `by`, if it is higher."""
        if lower > self.lower:
            self.lower, self.lower_by = lower, by

    @property
    def most(self) -> int:
        """Upper limit on sums of interest: the incumbent's, or `top` without one."""
        return self.top if self.value is None else self.value

    def close_enough(self) -> bool:
        """True if the incumbent is within the requested gap of the lower bound."""
        return self.value is not None and within_gap(
            self.problem.goal, self.value, self.lower, self.effort.gap
        )

    def outcome(self, proven: bool, by: str = "") -> Outcome:
        """Return the present state as a result."""
        by = by or self.lower_by
        if self.value is None:
            if not proven:
                return Outcome(bound=self.lower, proved_by=self.lower_by)
            beyond = None if self.at_most is None else max(self.lower, self.at_most + 1)
            return Outcome(bound=beyond, proven=True, proved_by=by)
        return Outcome(self.chosen, self.value, min(self.lower, self.value), proven, self.found_by, by)


def within_gap(goal: Goal, value: int, bound: int, gap: float) -> bool:
    """True if |value - bound| <= gap * |value| in the objective's units. `value` and `bound` are given as sums."""
    reached, proven = goal.in_units(value), goal.in_units(bound)
    if reached is None or proven is None:
        return value == bound
    return abs(reached - proven) <= Fraction(gap) * abs(reached)


def bound_enough(goal: Goal, value: int, bound: int, gap: float) -> int:
    """Return the least bound, from the known `bound` on, that brings `value` within the gap."""
    bounds = range(bound, value)
    return bound + bisect_left(bounds, True, key=lambda better: within_gap(goal, value, better, gap))
