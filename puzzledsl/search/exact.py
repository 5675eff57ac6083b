"""The best answers of a search: over all batches, with preferences, and several that differ.

Branch and bound over boxes of batches (Land & Doig 1960): the box with the most promising bound is split, or solved where it is a
single batch; what cannot beat the best answer so far is left out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction

from puzzledsl.ir.tables import LayerAssignment
from puzzledsl.search.bound import Bound
from puzzledsl.search.box import Box
from puzzledsl.search.core import NONE, Outcome, minimise
from puzzledsl.search.cpsat import Effort
from puzzledsl.search.distinct import distinct
from puzzledsl.search.incumbent import feasible
from puzzledsl.search.instance import INFINITE, Goal, Ints, Problem, Row
from puzzledsl.search.label_setting import NAME as LABELS
from puzzledsl.search.metrics import Child
from puzzledsl.search.problem import Problems
from puzzledsl.search.rows import without_larger
from puzzledsl.search.tables import Tables
from puzzledsl.search.waiting import Entry, Floors, Incumbent, Waiting

MAX_ROUNDING_CUTS = 100
MOST_GUESSES = 3
GUESS_GAP = 2e-3
FEW_MODELS, LITTLE_WORK = 50_000, 0.1  # the first effort for one box of several
MORE = 8  # times as much the next time


@dataclass(frozen=True, slots=True)
class Found:
    """The best answer over all batches; `bound` is what no answer can beat, in the goal's units (None: nothing is known).

    `layers` is None when there is no answer: `proven` then says that none exists. `found_by` and `proved_by` name the parts of
    the search that found the answer and that ended the last proof.
    """

    layers: tuple[LayerAssignment, ...] | None
    batches: dict[str, int]
    bound: Fraction | None
    proven: bool
    found_by: str = ""
    proved_by: str = ""


NOTHING = Found(None, {}, None, True)


def several(tables: Tables, problems: Problems, number: int, apart: int, effort: Effort) -> list[Found]:
    """Up to `number` answers, any two of which differ in `apart` layers or more, each the best given those before.

    Ends early with an answer that is not there; the first entry is always present.
    """
    if number > 1 and len(problems.boxes) == 1 and problems.boxes[0].is_single:
        only = problems.at(problems.boxes[0])
        answers = distinct(only, number, max(1, apart), effort) if _plain(only) else None
        if answers is not None:
            return [_proven(only, chosen) for chosen in answers]
    results: list[Found] = []
    floors: Floors = {}
    for left in reversed(range(number)):
        found = best_meeting_all(tables, problems, effort, floors)
        results.append(found)
        if found.layers is None or not left:
            break
        problems = cut_off(problems, found.layers, max(1, apart))
    return results if len(results) == 1 or results[-1].layers is not None else results[:-1]


def cut_off(problems: Problems, layers: tuple[LayerAssignment, ...], apart: int) -> Problems:
    """The problems without models that differ from an assignment in fewer than `apart` layers."""
    return problems.changed(lambda problem, _: problem.with_rows(problem.apart_from(layers, apart)))


def _plain(problem: Problem) -> bool:
    """Whether its answers, in order of the goal's integers, are the answers."""
    return not problem.preferences and problem.goal.exact and all(row.exact for row in problem.rows)


def _proven(problem: Problem, chosen: Ints) -> Found:
    bound = problem.goal.in_units(problem.goal.of(chosen))
    names = {"found_by": LABELS, "proved_by": LABELS}  # all answers are listed by label setting
    return Found(problem.choice(chosen), dict(problem.batches), bound, True, **names)


def best_meeting_all(
    tables: Tables, problems: Problems, effort: Effort, floors: Floors | None = None
) -> Found:
    """`best_of`, without answers that only meet a requirement because its integers are rounded (they are cut off)."""
    floors = {} if floors is None else floors
    for _ in range(MAX_ROUNDING_CUTS):
        found = best_of(problems, effort, floors)
        if found.layers is None:
            return found
        if is_right(tables, problems.at(Box.at(found.batches)), found.layers):
            return found
        problems = cut_off(problems, found.layers, 1)
    return replace(found, layers=None, proven=False)


def is_right(tables: Tables, problem: Problem, layers: tuple[LayerAssignment, ...]) -> bool:
    """Whether an answer of a single box's problem is one exactly, not only in rounded integers."""
    if all(row.exact for row in problem.rows):
        return True
    child = Child(tables, layers, problem.batches)
    return all(map(child.fits, tables.scenarios)) and all(map(child.meets, tables.search.requirements))


def best_of(
    problems: Problems, effort: Effort, floors: Floors | None = None, *, canonical: bool = True
) -> Found:
    """Solve the problems of one search, most promising bound first, leaving out those that cannot win.

    Equal goals are decided by the preferences, then by the smallest batches. `floors` has proven bounds on the boxes' sums, and
    is given those that are proven here: they hold for the same problems with more rows too. Not `canonical`: any of the best
    answers will do.
    """
    search = _Search(canonical, Waiting(problems, effort, {} if floors is None else floors))
    while (entry := search.waiting.next()) is not None:
        if entry.box.is_single:
            search.solve(entry)
        elif search.needs_a_guess:
            search.guess(entry)
        else:
            search.solve_relaxed(entry)
    proven = search.proven and search.waiting.in_time
    bound, by = search.waiting.bound(), search.proved_by or "Lagrangian bound"
    return replace(search.winner, bound=bound, proven=proven, proved_by=by)


@dataclass(slots=True)
class _Search:
    """One run of branch and bound: the queue, and the best answer so far. `proven`: every box was solved to its end."""

    canonical: bool
    waiting: Waiting
    winner: Found = NOTHING
    proven: bool = True
    guesses: int = 0
    proved_by: str = ""

    @property
    def needs_a_guess(self) -> bool:
        """Whether an answer is sought without a proof first: with none known, a box that has hardly any takes long to solve."""
        return self.winner.layers is None and self.guesses < MOST_GUESSES

    def guess(self, entry: Entry) -> None:
        """Look for models that fit at a box's batches, or at larger ones, and take each at those that it runs at."""
        self.guesses += 1
        box, problems = entry.box, self.waiting.problems
        corners = (Box(box.scenarios, end, end) for end in (box.high, box.low))
        effort = replace(_short(self.waiting.effort, 0), gap=max(self.waiting.effort.gap, GUESS_GAP))
        for problem in (*map(problems.at, corners), entry.problem):
            outcome = minimise(without_larger(problem), effort, canonical=False)
            if outcome.chosen is not None:
                self._try(problem.choice(outcome.chosen), box, outcome.found_by)
            if self.winner.layers is not None:
                break
        self.waiting.put_back(entry)

    def solve(self, entry: Entry) -> None:
        """Solve a single box exactly; where that takes long and there are others, go on with it when its turn comes again."""
        waiting, problem = self.waiting, entry.problem
        effort = waiting.effort if waiting.is_listed else _short(waiting.effort, entry.tries)
        outcome, preferred = self._sought(entry, effort, canonical=self.canonical)
        if not outcome.proven and effort != waiting.effort and waiting.effort.left_s > 0:
            if outcome.chosen is not None:
                self._try(problem.choice(outcome.chosen), entry.box, outcome.found_by)
            waiting.postpone(entry, outcome.bound)
            return
        self.proven, self.proved_by = self.proven and outcome.proven, outcome.proved_by
        waiting.leave_out(entry, outcome.bound)
        if outcome.chosen is not None and outcome.value is not None:
            ranks = (problem.goal.rank(outcome.value), *preferred)
            reached = Incumbent(ranks, entry.box)
            self._reached(problem, problem.choice(outcome.chosen), reached, outcome.found_by)

    def _sought(
        self, entry: Entry, effort: Effort, *, canonical: bool
    ) -> tuple[Outcome, tuple[Fraction, ...]]:
        """Solve a box's problem, as far as an answer in it may win."""
        floor = self.waiting.floors.get(entry.box)
        for most in self.waiting.sought(entry):
            outcome, preferred = minimise_in_order(
                entry.problem, effort, floor, entry.bound, most, canonical=canonical
            )
            if not outcome.infeasible:
                break
            floor = outcome.bound if floor is None or outcome.bound is None else max(floor, outcome.bound)
        return outcome, preferred

    def solve_relaxed(self, entry: Entry) -> None:
        """Solve a narrow box's relaxation: often it has no better answer at all, or one that is right, at the batches that it
        runs at. Go on with those batches and with the box's halves."""
        waiting, goal = self.waiting, entry.problem.goal
        plain = replace(entry, problem=replace(entry.problem, preferences=()))
        outcome, _ = self._sought(plain, _short(waiting.effort, 0), canonical=False)
        if outcome.infeasible:
            waiting.leave_out(entry, outcome.bound)
            return
        rank = entry.rank if outcome.bound is None else max(entry.rank, goal.rank(outcome.bound))
        if outcome.chosen is not None:
            box = self._try(entry.problem.choice(outcome.chosen), entry.box, outcome.found_by)
            if box is not None and entry.box.has(box.lows):
                waiting.add(box, rank)
        waiting.halve(entry.box, rank)

    def _try(self, layers: tuple[LayerAssignment, ...], near: Box, by: str) -> Box | None:
        """Take a model as an answer at the batches that it runs at, if it is one there; returns those."""
        box = self.waiting.problems.box_of(layers, near)
        if box is None:
            return None
        problem = self.waiting.problems.at(box)
        chosen = problem.indices(layers)
        if chosen is not None and feasible(problem, chosen):
            unknown = [INFINITE] * len(problem.preferences)
            ranks = (problem.goal.rank(problem.goal.of(chosen)), *unknown)
            self._reached(problem, layers, Incumbent(ranks, box, final=False), by)
        return box

    def _reached(
        self, problem: Problem, layers: tuple[LayerAssignment, ...], reached: Incumbent, by: str
    ) -> None:
        best = self.waiting.best
        if best is None or reached.key < best.key or (reached.key == best.key and not best.final):
            self.waiting.best = reached
            self.winner = Found(layers, dict(problem.batches), None, True, by)


def _short(effort: Effort, tries: int) -> Effort:
    """A part of an effort that grows with every try; all of it in the end."""
    models, work = FEW_MODELS * MORE**tries, LITTLE_WORK * MORE**tries
    if models >= effort.models:
        return effort
    return replace(effort, models=models, work=work if effort.work is None else min(work, effort.work))


def minimise_in_order(
    problem: Problem,
    effort: Effort,
    floor: int | None = None,
    bound: Bound | None = None,
    at_most: int | None = None,
    *,
    canonical: bool = True,
) -> tuple[Outcome, tuple[Fraction, ...]]:
    """Minimise the goal, then each preference in turn among the answers that are best so far; also the preferences' ranks."""
    if problem.preferences and not problem.goal.values.any():
        return _preferences_alone(problem, effort, at_most, canonical=canonical)
    first = outcome = minimise(
        problem, effort, canonical and not problem.preferences, at_least=floor, bound=bound, at_most=at_most
    )
    ranks: list[Fraction] = []
    for number, preference in enumerate(problem.preferences, start=1):
        if outcome.chosen is None or outcome.value is None:
            break
        problem = problem.with_rows(Row("best so far", problem.goal.values, outcome.value))
        problem = replace(problem, goal=preference)
        outcome = _preferred(problem, preference, outcome, effort, last=number == len(problem.preferences))
        ranks.append(preference.rank(outcome.value or 0))
    return replace(first, chosen=outcome.chosen), tuple(ranks)


def _preferences_alone(
    problem: Problem, effort: Effort, at_most: int | None, *, canonical: bool
) -> tuple[Outcome, tuple[Fraction, ...]]:
    """`minimise_in_order` where the goal is the same for every model, as a batch is: the first preference decides."""
    if at_most is not None and at_most < 0:
        return NONE, ()
    goal, *rest = problem.preferences
    first = replace(problem, goal=goal, preferences=tuple(rest))
    outcome, ranks = minimise_in_order(first, replace(effort, gap=0.0), canonical=canonical)
    if outcome.chosen is None or outcome.value is None:
        return outcome if outcome.infeasible else replace(outcome, bound=0), ()
    return replace(outcome, value=0, bound=0), (goal.rank(outcome.value), *ranks)


def _preferred(problem: Problem, goal: Goal, so_far: Outcome, effort: Effort, *, last: bool) -> Outcome:
    after = minimise(problem, replace(effort, gap=0.0), canonical=last)
    if after.chosen is None:  # out of time: keep what there is
        assert so_far.chosen is not None
        return replace(so_far, value=goal.of(so_far.chosen), proven=False)
    return after
