"""Priority queue of a search's open boxes of batches, best bound first.

Boxes are first bounded at prices near those of the box before, which is good enough to order them. A box's own best prices are
computed when its turn comes, unless the last ones are close enough. A single problem is bounded by its solver.
"""

from __future__ import annotations

import heapq
import math
from bisect import bisect_left
from dataclasses import dataclass, field, replace
from fractions import Fraction

from puzzledsl.search.effort import Effort
from puzzledsl.search.lagrangian.bound import Bound, certify, lagrangian_bound
from puzzledsl.search.lagrangian.lagrangian_dual import carried, nearer
from puzzledsl.search.problem.box import Box
from puzzledsl.search.problem.columns import Floats
from puzzledsl.search.problem.instance import INFINITE, Problem
from puzzledsl.search.problem.problem import Problems

FEW = 1.4  # columns per layer up to which better prices would hardly help
SOME = 2  # columns per layer up to which a box is solved at once
REACHES = (1, 3, 8)  # limits of successive solves, in eighths of the way from the bound to the best answer
NARROW = 16  # a box is narrow, so that its relaxation is tight, if its batches differ by at most 1/16

Floors = dict[Box, int]


@dataclass(frozen=True, slots=True)
class Incumbent:
    """Best answer so far: ranks of its objective and preferences, and its batches. `final`: it is the best at its batches."""

    ranks: tuple[Fraction, ...]
    box: Box
    final: bool = True

    @property
    def key(self) -> tuple[tuple[Fraction, ...], tuple[int, ...]]:
        """Sort key of answers; less is better."""
        return self.ranks, self.box.low


@dataclass(order=True, slots=True)
class Entry:
    """A box in the queue. `rank`: lower bound on its models' ranks. `ready`: the bound is at good prices for it."""

    rank: Fraction
    low: tuple[int, ...]
    box: Box = field(compare=False)
    problem: Problem = field(compare=False)
    bound: Bound | None = field(compare=False)
    ready: bool = field(compare=False)
    tries: int = field(compare=False, default=0)


class Waiting:
    """Queue of open boxes, the best answer so far, and the proven bounds of boxes that are done."""

    def __init__(self, problems: Problems, effort: Effort, floors: Floors) -> None:
        self.problems, self.effort, self.floors = problems, effort, floors
        self.best: Incumbent | None = None
        self.in_time = True
        self._queue: list[Entry] = []
        self._last: tuple[Problem, Floats] | None = None  # last bounded problem, with good prices for it
        self._settled: list[
            Fraction
        ] = []  # lower bounds on the ranks of models in boxes that are pruned or solved
        self._solved: set[Box] = set()
        self._upwards = False
        boxes = problems.boxes
        if self.is_single:
            only = problems.at(boxes[0])
            self._upwards = only.goal.upwards
            self._queue.append(Entry(-INFINITE, boxes[0].low, boxes[0], only, None, True))
            return
        for box in boxes:
            self.add(box, -INFINITE)

    # -------------------------------------------------------- the queue

    def add(self, box: Box, rank: Fraction) -> None:
        """Add a box to the queue, unless it is infeasible or solved already. `rank`: lower bound on its models' ranks."""
        if box in self._solved:
            return
        problem = self.problems.at(box)
        self._upwards = problem.goal.upwards
        if _has_none(problem):
            return
        guess = self._guess(problem)
        if guess is None:
            bound = self._own(problem)
        else:
            prices = nearer(problem, guess)
            bound = certify(problem, prices)
            if not bound.infeasible:
                self._last = problem, prices
        if not bound.infeasible:
            rank = max(rank, problem.goal.rank(max(bound.value, self.floors.get(box, bound.value))))
            heapq.heappush(self._queue, Entry(rank, box.low, box, problem, bound, guess is None))

    def next(self) -> Entry | None:
        """Return the next box to solve, single or narrow; None if no box can have a better answer or time is up."""
        while self._queue:
            entry = self._queue[0]
            if self.effort.left_s <= 0 and not entry.box.is_single:
                self.in_time = False
                break
            if self.best is not None and entry.rank > self._least_to_lose():
                break
            heapq.heappop(self._queue)
            if entry.box in self._solved:
                continue
            found = self._closer(entry) if self.best is not None or _is_narrow(entry.box) else entry
            if found is None:
                continue
            if entry.box.is_single or (_is_narrow(entry.box) and self._is_worth_solving(found)):
                return found
            self.halve(entry.box, found.rank)
        self._settled += [entry.rank for entry in self._queue[:1]]
        self._queue.clear()
        return None

    @property
    def is_single(self) -> bool:
        """True if there is only one combination of batches."""
        return len(self.problems.boxes) == 1 and self.problems.boxes[0].is_single

    @property
    def is_listed(self) -> bool:
        """True if every combination of batches is its own box: no scenario has a profile."""
        return all(box.is_single for box in self.problems.boxes)

    def put_back(self, entry: Entry) -> None:
        """Put an entry back into the queue."""
        heapq.heappush(self._queue, entry)

    def postpone(self, entry: Entry, bound: int | None) -> None:
        """Put an unfinished box back, with the lower bound on its sum proven so far."""
        rank = entry.rank
        if bound is not None:
            self.floors[entry.box] = bound
            rank = max(rank, entry.problem.goal.rank(bound))
        self.put_back(replace(entry, rank=rank, tries=entry.tries + 1))

    def halve(self, box: Box, rank: Fraction) -> None:
        """Add the halves of a box to the queue. `rank`: lower bound on the box's ranks."""
        for half in box.halves():
            self.add(half, rank)

    def leave_out(self, entry: Entry, bound: int | None) -> None:
        """Record a solved box and the proven lower bound on its sum. None, or a bound above all sums: it has no model."""
        self._solved.add(entry.box)
        if bound is None:
            return
        self.floors[entry.box] = bound
        goal = entry.problem.goal
        if bound <= entry.problem.columns.most(goal.values).sum():
            self._settled.append(max(entry.rank, goal.rank(bound)))

    def _closer(self, entry: Entry) -> Entry | None:
        """Return the entry with a good bound if it is still to be solved; else None, after it is put back or pruned."""
        if entry.ready:
            return entry if self._may_win(entry) else None
        problem, near = entry.problem, self._better_bound(entry)
        if near.infeasible:
            return None
        rank = max(entry.rank, problem.goal.rank(near.value))
        entry = replace(entry, rank=rank, bound=near, ready=True)
        if self.best is None:
            return entry  # first or nearly first: its answer prunes most other boxes
        heapq.heappush(self._queue, entry)
        return None

    def _better_bound(self, entry: Entry) -> Bound:
        """Return the bound at the last prices if it is close enough, else at the problem's own best prices."""
        problem, most, guess = entry.problem, self.at_most(entry), self._guess(entry.problem)
        near = None if guess is None or most is None else certify(problem, guess)
        if near is None or most is None or not _is_close(problem, near, most):
            return self._own(problem)
        return near

    # -------------------------------------------------------- what can win

    def _least_to_lose(self) -> Fraction:
        """Return the rank below which an answer improves on the best one by more than the requested gap."""
        assert self.best is not None
        rank = self.best.ranks[0]
        return rank - Fraction(self.effort.gap) * abs(rank) if self.effort.gap else rank

    def _ties_win(self, box: Box) -> bool:
        """True if an answer with an equal objective may win, by its preferences or by smaller batches."""
        assert self.best is not None
        if self.effort.gap or len(self.best.ranks) > 1:
            return not self.effort.gap
        return box.low < self.best.box.low or (box.low == self.best.box.low and not self.best.final)

    def _may_win(self, entry: Entry) -> bool:
        """True if a box's bound leaves room for a better answer; if not, record its rank as settled."""
        most = self.at_most(entry)
        if most is None or entry.bound is None:
            return True
        wins = entry.bound.value <= most and (
            entry.rank < self._least_to_lose()
            or (entry.rank == self._least_to_lose() and self._ties_win(entry.box))
        )
        if not wins:
            self._settled.append(entry.rank)
        return wins

    def at_most(self, entry: Entry) -> int | None:
        """Return the largest sum with which an answer in the box beats the best one; None without a best answer."""
        if self.best is None:
            return None
        goal, columns = entry.problem.goal, entry.problem.columns
        limit, ties = self._least_to_lose(), self._ties_win(entry.box)
        least, most = int(columns.least(goal.values).sum()), int(columns.most(goal.values).sum())
        if goal.tokens is None:  # ranks rise evenly with the sum
            start = goal.rank(0)
            sums = (limit - start) / (goal.rank(1) - start)
            largest = math.floor(sums) if ties else math.ceil(sums) - 1
            return min(max(largest, least - 1), most)

        def loses(total: int) -> bool:
            rank = goal.rank(total)
            return rank > limit or (rank == limit and not ties)

        return least + bisect_left(range(least, most + 1), True, key=loses) - 1

    def _is_worth_solving(self, entry: Entry) -> bool:
        """True if a narrow box is solved before it is split: without an answer yet, or if the bound leaves few columns."""
        most = self.at_most(entry)
        return most is None or entry.bound is None or self._leaves_few(entry.problem, entry.bound, most)

    def sought(self, entry: Entry) -> list[int | None]:
        """Return the limits on sums for successive solves of a box, until an answer is found; the last is `at_most`.

        If the bound leaves many columns, better answers are likely, and they are found faster with lower limits first.
        """
        most = self.at_most(entry)
        if most is None or entry.bound is None or self._leaves_few(entry.problem, entry.bound, most):
            return [most]
        above = most - entry.bound.value
        return [*dict.fromkeys(entry.bound.value + above * share // 8 for share in REACHES)]

    def _leaves_few(self, problem: Problem, bound: Bound, most: int) -> bool:
        return _leaves(bound, most) <= SOME * problem.columns.layers

    def bound(self) -> Fraction | None:
        """Return the proven bound on the objective over all boxes, in its units; None if nothing is known."""
        rank = min(self._settled, default=-INFINITE)
        if abs(rank) >= INFINITE:
            return None
        return -rank if self._upwards else rank

    # -------------------------------------------------------- prices

    def _own(self, problem: Problem) -> Bound:
        bound = lagrangian_bound(problem, self._guess(problem))
        if not bound.infeasible:
            self._last = problem, bound.float_prices
        return bound

    def _guess(self, problem: Problem) -> Floats | None:
        """Return the last prices in this problem's units; None if there are none for the same rows."""
        if self._last is None or len(self._last[0].rows) != len(problem.rows):
            return None
        return carried(self._last[1], self._last[0], problem)


def _is_narrow(box: Box) -> bool:
    """True if the batches of a box differ by at most 1 / NARROW."""
    return all((high - low) * NARROW <= low for low, high in zip(box.low, box.high, strict=True))


def _has_none(problem: Problem) -> bool:
    """True if some row alone is infeasible: even the least use of every layer exceeds its limit."""
    return bool((problem.columns.least(problem.matrix).sum(axis=1) > problem.limits).any())


def _is_close(problem: Problem, bound: Bound, most: int) -> bool:
    """True if a bound excludes answers up to `most`, or leaves so few columns for them that a better bound would hardly help."""
    return bound.value > most or _leaves(bound, most) <= FEW * problem.columns.layers


def _leaves(bound: Bound, most: int) -> int:
    """Return the number of columns that may be in an answer with a sum up to `most`."""
    return int(bound.within(most).sum())
