"""The boxes of a search that are not settled yet, most promising bound first.

Prices near those of the box before bound each well enough to order them. A single box's best prices are sought when its turn
comes, where those of the last one do not do. A problem on its own is bounded by whoever solves it.
"""

from __future__ import annotations

import heapq
import math
from bisect import bisect_left
from dataclasses import dataclass, field, replace
from fractions import Fraction

from puzzledsl.search.bound import Bound, Floats, certify, lagrangian_bound
from puzzledsl.search.box import Box
from puzzledsl.search.cpsat import Effort
from puzzledsl.search.instance import INFINITE, Problem
from puzzledsl.search.prices import carried, nearer
from puzzledsl.search.problem import Problems

FEW = 1.4  # columns a layer
SOME = 2  # columns a layer
REACHES = (1, 3, 8)  # eighths of the way from a bound to the best answer
NARROW = (
    16  # a box is narrow where its batches differ by less than this part of them: its relaxation is close
)

Floors = dict[Box, int]


@dataclass(frozen=True, slots=True)
class Incumbent:
    """The best answer so far: its goal's rank, then its preferences', and its batches. `final`: it is the best at its batches."""

    ranks: tuple[Fraction, ...]
    box: Box
    final: bool = True

    @property
    def key(self) -> tuple[tuple[Fraction, ...], tuple[int, ...]]:
        """Decides between two answers: the lesser wins."""
        return self.ranks, self.box.low


@dataclass(order=True, slots=True)
class Entry:
    """A box in the queue. `rank`: no model in it has a better one. `ready`: its bound is as good as it gets."""

    rank: Fraction
    low: tuple[int, ...]
    box: Box = field(compare=False)
    problem: Problem = field(compare=False)
    bound: Bound | None = field(compare=False)
    ready: bool = field(compare=False)
    tries: int = field(compare=False, default=0)


class Waiting:
    """The queue, the best answer so far, and what is proven of the boxes that are left out."""

    def __init__(self, problems: Problems, effort: Effort, floors: Floors) -> None:
        self.problems, self.effort, self.floors = problems, effort, floors
        self.best: Incumbent | None = None
        self.in_time = True
        self._queue: list[Entry] = []
        self._last: tuple[Problem, Floats] | None = None  # what was bounded last, at good prices for it
        self._settled: list[
            Fraction
        ] = []  # ranks that no model of a box that is left out, or solved, is better than
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
        """Put a box into the queue, none of whose models has a better rank; unless it has none, or was solved before."""
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
        """The next box to solve: a single one, or a narrow one. None where no box may have a better answer."""
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
        """True where there is one combination of batches and nothing to decide."""
        return len(self.problems.boxes) == 1 and self.problems.boxes[0].is_single

    @property
    def is_listed(self) -> bool:
        """True where every combination of batches is solved alone, as none is computed from a profile."""
        return all(box.is_single for box in self.problems.boxes)

    def put_back(self, entry: Entry) -> None:
        """Put a box back into the queue."""
        heapq.heappush(self._queue, entry)

    def postpone(self, entry: Entry, bound: int | None) -> None:
        """Put a box back that was not solved to its end, with the bound that was proven in the meantime."""
        rank = entry.rank
        if bound is not None:
            self.floors[entry.box] = bound
            rank = max(rank, entry.problem.goal.rank(bound))
        self.put_back(replace(entry, rank=rank, tries=entry.tries + 1))

    def halve(self, box: Box, rank: Fraction) -> None:
        """Go on with the halves of a box, none of whose models has a better rank."""
        for half in box.halves():
            self.add(half, rank)

    def leave_out(self, entry: Entry, bound: int | None) -> None:
        """Remember a box that is solved, and its proven bound. None, or more than any sum: the box has no model."""
        self._solved.add(entry.box)
        if bound is None:
            return
        self.floors[entry.box] = bound
        goal = entry.problem.goal
        if bound <= entry.problem.columns.most(goal.values).sum():
            self._settled.append(max(entry.rank, goal.rank(bound)))

    def _closer(self, entry: Entry) -> Entry | None:
        """The box with as good a bound as is worth having, where its turn has come; else it goes back into the queue."""
        if entry.ready:
            return entry if self._may_win(entry) else None
        problem, near = entry.problem, self._better_bound(entry)
        if near.infeasible:
            return None
        rank = max(entry.rank, problem.goal.rank(near.value))
        entry = replace(entry, rank=rank, bound=near, ready=True)
        if self.best is None:
            return entry  # whether it is first or nearly: its answer leaves out most others
        heapq.heappush(self._queue, entry)
        return None

    def _better_bound(self, entry: Entry) -> Bound:
        """The bound of the last prices where it is close or the box has several batches, else of the box's own."""
        problem, most, guess = entry.problem, self.at_most(entry), self._guess(entry.problem)
        near = None if guess is None or most is None else certify(problem, guess)
        if near is None or most is None or not _is_close(problem, near, most):
            return self._own(problem)
        return near

    # -------------------------------------------------------- what can win

    def _least_to_lose(self) -> Fraction:
        """The rank from which on an answer is not better than the best one, by more than the gap that was asked for."""
        assert self.best is not None
        rank = self.best.ranks[0]
        return rank - Fraction(self.effort.gap) * abs(rank) if self.effort.gap else rank

    def _ties_win(self, box: Box) -> bool:
        """True where an answer as good as the best one may win, by its preferences or by smaller batches."""
        assert self.best is not None
        if self.effort.gap or len(self.best.ranks) > 1:
            return not self.effort.gap
        return box.low < self.best.box.low or (box.low == self.best.box.low and not self.best.final)

    def _may_win(self, entry: Entry) -> bool:
        """True where a box's bound leaves room for a better answer; if not, its rank is remembered."""
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
        """The largest sum with which an answer in a box wins against the best so far; None where there is none yet."""
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
        """True where a narrow box is solved before it is split: without an answer yet, or where few columns are left."""
        most = self.at_most(entry)
        return most is None or entry.bound is None or self._leaves_few(entry.problem, entry.bound, most)

    def sought(self, entry: Entry) -> list[int | None]:
        """The sums up to which answers in a box are sought, one after the other, until one is found: the last is `at_most`. Where
        many columns are left, better answers are likely, which are sooner found from below."""
        most = self.at_most(entry)
        if most is None or entry.bound is None or self._leaves_few(entry.problem, entry.bound, most):
            return [most]
        above = most - entry.bound.value
        return [*dict.fromkeys(entry.bound.value + above * share // 8 for share in REACHES)]

    def _leaves_few(self, problem: Problem, bound: Bound, most: int) -> bool:
        return _leaves(bound, most) <= SOME * problem.columns.layers

    def bound(self) -> Fraction | None:
        """A bound that no answer beats, in the goal's units; None where nothing is known."""
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
        """The last prices in this problem's units; None where there are none with the same rows."""
        if self._last is None or len(self._last[0].rows) != len(problem.rows):
            return None
        return carried(self._last[1], self._last[0], problem)


def _is_narrow(box: Box) -> bool:
    """True where all batches of a box are about the same."""
    return all((high - low) * NARROW <= low for low, high in zip(box.low, box.high, strict=True))


def _has_none(problem: Problem) -> bool:
    """True where some row is out of reach of every model by itself."""
    return bool((problem.columns.least(problem.matrix).sum(axis=1) > problem.limits).any())


def _is_close(problem: Problem, bound: Bound, most: int) -> bool:
    """True where a bound leaves so few columns that an answer of at most `most` may have that a better one would hardly help."""
    return bound.value > most or _leaves(bound, most) <= FEW * problem.columns.layers


def _leaves(bound: Bound, most: int) -> int:
    """Number of columns that an answer of at most `most` may have."""
    return int(bound.within(most).sum())
