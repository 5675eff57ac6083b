"""Branch and bound over boxes of batches (Land & Doig 1960): the best answer, by objective and preferences.

The box with the best bound is solved if it is single, else split. Boxes that cannot beat the best answer so far are pruned.
"""

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction

from puzzledsl.ir.tables import Assignment
from puzzledsl.search.lagrangian.bound import Bound, lagrangian_bound
from puzzledsl.search.portfolio.minimise import NONE, minimise
from puzzledsl.search.problem.columns import Ints
from puzzledsl.search.problem.instance import INFINITE, Effort, Outcome, Problem, Row
from puzzledsl.search.problem.metrics import Box
from puzzledsl.search.problem.problem import Problems, without_larger

MOST_GUESSES = 3
GUESS_GAP = 2e-3
FEW_LABELS, LITTLE_WORK = 50_000, 0.1  # labels, CP-SAT seconds of a first try, if batches are intervals
MORE = 8  # growth of the effort from one try to the next
SOME = 2  # columns per layer up to which a box is solved at once
NARROW = 16  # a box is narrow, so that its relaxation is tight, if its batches differ by at most 1/16

Floors = dict[Box, int]  # proven lower bounds on the sums of boxes


@dataclass(frozen=True, slots=True)
class Found:
    """Best answer over all batches.

    `layers`: None without an answer. `bound`: proven bound on the objective, in its units; None if nothing is known. `proven`:
    the search was finished, so the answer is best within the gap, or none exists. `found_by` and `proved_by`: the engines that
    found the answer and that finished the last proof. `value`: the objective by the solver's integers, unless these are rounded;
    the verifier compares it with its own.
    """

    layers: tuple[Assignment, ...] | None
    batches: dict[str, int]
    bound: Fraction | None
    proven: bool
    found_by: str = ""
    proved_by: str = ""
    value: Fraction | None = None


def best_of(
    problems: Problems, effort: Effort, floors: Floors | None = None, *, canonical: bool = True
) -> Found:
    """Solve the problems of one search by branch and bound; ties are broken by the preferences, then by smaller batches.

    `floors`: proven lower bounds on the sums of boxes, which also hold with more rows; those proven here are added. `canonical`
    False: any of the best answers may be returned.
    """
    return _Search(problems, effort, {} if floors is None else floors, canonical).run()


@dataclass(frozen=True, order=True, slots=True)
class Incumbent:
    """Best answer so far: ranks of objective and preferences, batches `low`. `rough`: a better one may exist at these."""

    ranks: tuple[Fraction, ...]
    low: tuple[int, ...]
    rough: bool = False


@dataclass(order=True, slots=True)
class Entry:
    """A box in the queue. `rank`: lower bound on its models' ranks."""

    rank: Fraction
    low: tuple[int, ...]
    box: Box = field(compare=False)
    problem: Problem = field(compare=False)
    bound: Bound | None = field(compare=False)
    tries: int = field(compare=False, default=0)


class _Search:
    """One run of branch and bound: the queue of open boxes, the best answer, and the proven bounds of boxes that are done."""

    def __init__(self, problems: Problems, effort: Effort, floors: Floors, canonical: bool) -> None:
        self.problems, self.effort, self.floors, self.canonical = problems, effort, floors, canonical
        self.best: Incumbent | None = None
        self.winner = Found(None, {}, None, True)
        self.in_time = True  # all boxes were looked at, and those that were solved were finished
        self.guesses, self.proved_by, self.upwards = 0, "", False
        self.queue: list[Entry] = []
        self.settled: list[Fraction] = []  # lower bounds on the ranks of models in boxes that are done
        self.solved: set[Box] = set()
        if len(problems.boxes) == 1 and problems.boxes[0].is_single:  # its solver bounds it
            box = problems.boxes[0]
            only = problems.at(box)
            self.upwards = only.goal.upwards
            self.queue.append(Entry(-INFINITE, box.low, box, only, None))
        else:
            for box in problems.boxes:
                self.add(box, -INFINITE)

    def run(self) -> Found:
        """Solve boxes until none can have a better answer or time is up."""
        for entry in self.entries():
            if entry.box.is_single:
                self.solve(entry)
            elif self.winner.layers is None and self.guesses < MOST_GUESSES:
                self.guess(entry)
            else:
                self.solve_relaxed(entry)
        rank = min(self.settled, default=-INFINITE)
        bound = None if abs(rank) >= INFINITE else -rank if self.upwards else rank
        by = self.proved_by or "Lagrangian bound"
        return replace(self.winner, bound=bound, proven=self.in_time, proved_by=by)

    def guess(self, entry: Entry) -> None:
        """Look for a first answer: without one, boxes take long. Tries the box's ends, then its relaxation."""
        self.guesses += 1
        box = entry.box
        corners = (Box(box.scenarios, end, end) for end in (box.high, box.low))
        effort = replace(_short(self.effort, 0), gap=max(self.effort.gap, GUESS_GAP))
        for problem in (*map(self.problems.at, corners), entry.problem):
            outcome = minimise(without_larger(problem), effort, canonical=False)
            self.attempt(problem, outcome, box)
            if self.winner.layers is not None:
                break
        heapq.heappush(self.queue, entry)

    def solve(self, entry: Entry) -> None:
        """Solve a single box exactly. Where batches are intervals, one that takes long waits, and continues with more effort."""
        problem, effort = entry.problem, self.effort
        if not all(box.is_single for box in self.problems.boxes):
            effort = _short(effort, entry.tries)
        floor, most = self.floors.get(entry.box), self.at_most(entry)
        outcome, preferred = minimise_in_order(
            problem, effort, floor, entry.bound, most, canonical=self.canonical
        )
        if not outcome.proven and effort != self.effort and self.effort.left_s > 0:
            self.attempt(problem, outcome, entry.box)
            rank = entry.rank
            if outcome.bound is not None:
                self.floors[entry.box] = outcome.bound
                rank = max(rank, problem.goal.rank(outcome.bound))
            heapq.heappush(self.queue, replace(entry, rank=rank, tries=entry.tries + 1))
            return
        self.in_time, self.proved_by = self.in_time and outcome.proven, outcome.proved_by
        self.leave_out(entry, outcome.bound)
        if outcome.chosen is not None and outcome.value is not None:
            ranks = (problem.goal.rank(outcome.value), *preferred)
            self.reached(problem, outcome.chosen, Incumbent(ranks, entry.box.low), outcome.found_by)

    def solve_relaxed(self, entry: Entry) -> None:
        """Solve the relaxation of a box: prune it, or try its answer and add its batches and the box's halves."""
        plain, floor = replace(entry.problem, preferences=()), self.floors.get(entry.box)
        effort, most = _short(self.effort, 0), self.at_most(entry)
        outcome = minimise(plain, effort, False, at_least=floor, bound=entry.bound, at_most=most)
        if outcome.infeasible:
            self.leave_out(entry, outcome.bound)
            return
        rank = entry.rank
        if outcome.bound is not None:
            rank = max(rank, entry.problem.goal.rank(outcome.bound))
        box = self.attempt(entry.problem, outcome, entry.box)
        if box is not None and entry.box.has(box.lows):
            self.add(box, rank)
        for half in entry.box.halves():
            self.add(half, rank)

    def attempt(self, problem: Problem, outcome: Outcome, near: Box) -> Box | None:
        """Take a model as an answer if it is feasible at the batches that it runs at. Return these, or None if there are none."""
        if outcome.chosen is None:
            return None
        layers = problem.choice(outcome.chosen)
        box = self.problems.box_of(layers, near)
        if box is None:
            return None
        problem = self.problems.at(box)
        chosen = problem.indices(layers)
        if chosen is not None and problem.is_feasible(chosen):
            ranks = (problem.goal.rank(problem.goal.of(chosen)), *[INFINITE] * len(problem.preferences))
            self.reached(problem, chosen, Incumbent(ranks, box.low, rough=True), outcome.found_by)
        return box

    def reached(self, problem: Problem, chosen: Ints, new: Incumbent, by: str) -> None:
        """Keep an answer if it is better than the best so far."""
        if self.best is None or new < self.best:
            self.best, goal = new, problem.goal
            value = goal.in_units(goal.of(chosen)) if goal.exact else None
            self.winner = Found(problem.choice(chosen), dict(problem.batches), None, True, by, value=value)

    def add(self, box: Box, rank: Fraction) -> None:
        """Add a box to the queue, unless it is infeasible or solved already. `rank`: lower bound on its models' ranks."""
        if box in self.solved:
            return
        problem = self.problems.at(box)
        self.upwards = problem.goal.upwards
        if (problem.columns.least(problem.matrix).sum(axis=1) > problem.limits).any():
            return  # some row alone is infeasible
        bound = lagrangian_bound(problem)
        if not bound.infeasible:
            rank = max(rank, problem.goal.rank(max(bound.value, self.floors.get(box, bound.value))))
            heapq.heappush(self.queue, Entry(rank, box.low, box, problem, bound))

    def entries(self) -> Iterator[Entry]:
        """Yield the boxes to solve, single or narrow, until no box can have a better answer or time is up."""
        while self.queue:
            entry = self.queue[0]
            box = entry.box
            if self.effort.left_s <= 0 and not box.is_single:
                self.in_time = False
                break
            if self.best is not None and entry.rank > self.least_to_lose():
                break
            heapq.heappop(self.queue)
            if box in self.solved or not self.may_win(entry):
                continue
            narrow = all((high - low) * NARROW <= low for low, high in zip(box.low, box.high, strict=True))
            if narrow and (most := self.at_most(entry)) is not None and entry.bound is not None:
                narrow = int(entry.bound.within(most).sum()) <= SOME * entry.problem.columns.layers
            if box.is_single or narrow:
                yield entry
            else:
                for half in box.halves():
                    self.add(half, entry.rank)
        self.settled += [entry.rank for entry in self.queue[:1]]

    def leave_out(self, entry: Entry, bound: int | None) -> None:
        """Record a solved box and the proven lower bound on its sum. None, or a bound above all sums: it has no model."""
        self.solved.add(entry.box)
        if bound is None:
            return
        self.floors[entry.box] = bound
        if bound <= entry.problem.largest_sum:
            self.settled.append(max(entry.rank, entry.problem.goal.rank(bound)))

    def least_to_lose(self) -> Fraction:
        """Return the rank below which an answer improves on the best one by more than the requested gap."""
        assert self.best is not None
        rank = self.best.ranks[0]
        return rank - Fraction(self.effort.gap) * abs(rank) if self.effort.gap else rank

    def ties_win(self, box: Box) -> bool:
        """True if an answer with an equal objective may win, by its preferences or by smaller batches."""
        assert self.best is not None
        if self.effort.gap or len(self.best.ranks) > 1:
            return not self.effort.gap
        return box.low < self.best.low or (box.low == self.best.low and self.best.rough)

    def may_win(self, entry: Entry) -> bool:
        """True if a box's bound leaves room for a better answer; if not, record its rank as settled."""
        most = self.at_most(entry)
        if most is None or entry.bound is None:
            return True
        limit = self.least_to_lose()
        wins = entry.rank < limit or (entry.rank == limit and self.ties_win(entry.box))
        if entry.bound.value <= most and wins:
            return True
        self.settled.append(entry.rank)
        return False

    def at_most(self, entry: Entry) -> int | None:
        """Return the largest sum with which an answer in the box beats the best one; None without a best answer."""
        if self.best is None:
            return None
        return entry.problem.largest_below(self.least_to_lose(), ties=self.ties_win(entry.box))


def _short(effort: Effort, tries: int) -> Effort:
    """Return a part of an effort, MORE times larger with every try, up to the whole effort."""
    labels, work = FEW_LABELS * MORE**tries, LITTLE_WORK * MORE**tries
    if labels >= effort.labels:
        return effort
    return replace(effort, labels=labels, work=work if effort.work is None else min(work, effort.work))


def minimise_in_order(
    problem: Problem,
    effort: Effort,
    floor: int | None = None,
    bound: Bound | None = None,
    at_most: int | None = None,
    *,
    canonical: bool = True,
) -> tuple[Outcome, tuple[Fraction, ...]]:
    """Minimise the objective, then each preference among the best. Return the outcome and the preferences' ranks."""
    exact = replace(effort, gap=0.0)
    if problem.preferences and not problem.goal.values.any():  # the same for every model, for example a batch
        if at_most is not None and at_most < 0:
            return NONE, ()
        goal, *rest = problem.preferences
        inner = replace(problem, goal=goal, preferences=tuple(rest))
        outcome, ranks = minimise_in_order(inner, exact, canonical=canonical)
        if outcome.chosen is None or outcome.value is None:
            return outcome if outcome.infeasible else replace(outcome, bound=0), ()
        return replace(outcome, value=0, bound=0), (goal.rank(outcome.value), *ranks)
    plain = canonical and not problem.preferences
    first = minimise(problem, effort, plain, at_least=floor, bound=bound, at_most=at_most)
    chosen, value, ranked = first.chosen, first.value, list[Fraction]()
    for number, preference in enumerate(problem.preferences, start=1):
        if chosen is None or value is None:
            break
        so_far = Row("best so far", problem.goal.values, value)
        problem = replace(problem.with_rows(so_far), goal=preference)
        after = minimise(problem, exact, canonical=number == len(problem.preferences), start=chosen)
        if after.chosen is None:  # out of time: keep the answer so far
            value = preference.of(chosen)
        else:
            chosen, value = after.chosen, after.value
        ranked.append(preference.rank(value or 0))
    return replace(first, chosen=chosen), tuple(ranked)
