"""Optimum of a search with each of many pins: many at once where budgets are all there is, then one after another.

A pin fixes the alternative of one sub-block of one layer. The optimum without pins and the slack of the Lagrangian bound are
lower bounds of every pin; each answer is an upper bound of all the pins that it has. Pins that are still open are solved nearest
bounds first, in rounds with more time for each.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import chain

import numpy as np

from puzzledsl.ir.tables import Assignment
from puzzledsl.search.answer import best_meeting_all, checked
from puzzledsl.search.problem.instance import INFINITE, Effort, Problem, presolve
from puzzledsl.search.problem.metrics import Child
from puzzledsl.search.problem.paths import NEVER
from puzzledsl.search.problem.problem import Problems
from puzzledsl.search.sensitivity.part import Part, Pin, cases_of, most_of

SLICES_S = (0.5, 4.0, 30.0, 600.0)  # seconds for a pin, by round


@dataclass(frozen=True, slots=True)
class Standing:
    """Bounds on an optimum, as ranks (less is better): lower bound `least`, and `most`, reached by the child of `layers`.

    Both are None if no child exists; only `most` is None if none was found.
    """

    least: Fraction | None
    most: Fraction | None
    layers: tuple[Assignment, ...] | None = None
    batches: Mapping[str, int] | None = None

    @property
    def settled(self) -> bool:
        """True if the optimum is proven, or that there is no child."""
        return self.least == self.most

    def and_also(self, new: Standing) -> Standing:
        """Return the bounds from both of two searches for the same optimum."""
        if self.least is None or new.least is None:
            return self if self.least is None else new
        better = new if self.most is None or (new.most is not None and new.most < self.most) else self
        return replace(better, least=max(self.least, new.least))


NO_CHILD = Standing(None, None)
UNKNOWN = Standing(-INFINITE, None)


def standing(problems: Problems, effort: Effort) -> Standing:
    """Solve problems of a search and return the bounds on the optimum; the child is verified."""
    found, tables = best_meeting_all(problems, effort), problems.tables
    sign = -1 if tables.search.sense == "maximize" else 1
    least = -INFINITE if found.bound is None else sign * found.bound
    if found.layers is None:
        return NO_CHILD if found.proven else Standing(least, None)
    checked(tables, found)
    most = sign * Child(tables, found.layers, found.batches).linear(tables.search.objective)
    return Standing(most if found.proven else min(most, least), most, found.layers, found.batches)


def pinned(problems: Problems, pin: Pin) -> Problems:
    """Return the problems with one alternative fixed."""
    return problems.changed(lambda problem, _: problem.only(pin.keep(problem.columns)))


def optima_of(problems: Problems, pins: Sequence[Pin], root: Standing, effort: Effort) -> list[Standing]:
    """Find the optimum of a search with each pin. `problems`: without preferences. `root`: the optimum without pins."""
    if all(box.is_single for box in problems.boxes):
        listed = [*problems]
        if all(row.exact for problem in listed for row in problem.rows):
            return Pinned(listed, pins, root, effort).run()
    found = [UNKNOWN] * len(pins)
    for number, slice_s in _turns(found, effort):
        own = Effort.of(min(slice_s, effort.left_s))
        found[number] = found[number].and_also(standing(pinned(problems, pins[number]), own))
    return found


def _turns(found: Sequence[Standing], effort: Effort) -> Iterator[tuple[int, float]]:
    """Yield the number of each pin that is not settled and the seconds it gets, in rounds, those with near bounds first."""

    def width(number: int) -> Fraction:
        now = found[number]
        return INFINITE if now.most is None or now.least is None else now.most - now.least

    for slice_s in SLICES_S:
        for number in sorted(range(len(found)), key=width):
            if effort.left_s <= 0:
                return
            if not found[number].settled:
                yield number, slice_s


class Pinned:
    """Optima with each pin over several problems with exact integers, one for each combination of batches."""

    def __init__(self, listed: list[Problem], pins: Sequence[Pin], root: Standing, effort: Effort) -> None:
        self.pins, self.root, self.effort = pins, root, effort
        self.found = [UNKNOWN] * len(pins)
        solved = (presolve(problem, deadline=effort.deadline) for problem in listed)
        problems = chain.from_iterable(cases_of(each.problem) for each in solved if each is not None)
        self.parts = [Part(problem, pins, effort.deadline) for problem in problems]

    def run(self) -> list[Standing]:
        """Share what the optimum says, settle many pins at once, then solve with one pin after another."""
        for part in self.parts:
            self._near_the_optimum(part)
        alone = len(self.parts) == 1 and self.parts[0].free  # then few pins are left for cheap answers
        for part in () if alone else self.parts:
            part.cheapest_with(self.effort)
        self._settle(range(len(self.pins)))
        for part in self.parts:
            below = [_largest_below(part.problem, each.most) for each in self.found]
            part.most = np.minimum(part.most, below)
            part.together(self.effort)
            if alone:
                part.cheapest_with(self.effort)
            self._settle(range(len(self.pins)))
        for number, slice_s in _turns(self.found, self.effort):
            end = Effort.of(min(slice_s, self.effort.left_s)).deadline
            for part in self.parts:
                at_most = _largest_below(part.problem, self.found[number].most)
                part.solve(number, at_most, replace(self.effort, gap=0.0, deadline=end))
            self._settle([number])
        for part in self.parts:
            part.verify()
        self._settle(range(len(self.pins)))
        return self.found

    def _near_the_optimum(self, part: Part) -> None:
        """Share the optimum."""
        best = None if self.root.layers is None else part.problem.indices(self.root.layers)
        if best is not None and dict(part.problem.batches) == dict(self.root.batches or {}):
            part.share(best)
            if self.root.settled:
                part.gaps.append(part.problem.goal.of(best) - part.bound.value)
                part.lower = np.maximum(part.lower, part.problem.goal.of(best))

    def _settle(self, numbers: Sequence[int]) -> None:
        """Combine the bounds and answers of all problems, and the lower bound of the optimum without pins."""
        at_best = -INFINITE if self.root.least is None else self.root.least
        for number in numbers:
            least, now = list[Fraction](), UNKNOWN
            for part in self.parts:
                goal, upper = part.problem.goal, int(part.upper[number])
                if upper < NEVER and (now.most is None or goal.rank(upper) < now.most):
                    layers = part.problem.choice(part.chosen[number])
                    now = Standing(now.least, goal.rank(upper), layers, part.problem.batches)
                if not part.none[number]:
                    least.append(goal.rank(int(part.lower[number])))
            least += [] if now.most is None else [now.most]
            self.found[number] = replace(now, least=max(at_best, min(least))) if least else NO_CHILD


def _largest_below(problem: Problem, rank: Fraction | None) -> int:
    """Return the largest sum of a problem whose rank is below `rank`; without a rank, the largest possible sum."""
    low, high = int(problem.columns.least(problem.goal.values).sum()) - 1, most_of(problem)
    while rank is not None and low < high:
        middle = -(-(low + high) // 2)
        low, high = (middle, high) if problem.goal.rank(middle) < rank else (low, middle - 1)
    return high
