"""Branch and bound over boxes of batches (Land & Doig 1960): best answers, with preferences, and several diverse ones.

The box with the best bound is solved if it is single, else split. Boxes that cannot beat the best answer so far are pruned.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction

from puzzledsl.ir.tables import LayerAssignment
from puzzledsl.search.batches.waiting import Entry, Floors, Incumbent, Waiting
from puzzledsl.search.effort import Effort
from puzzledsl.search.lagrangian.bound import Bound
from puzzledsl.search.portfolio.minimise import NONE, Outcome, minimise
from puzzledsl.search.problem.box import Box
from puzzledsl.search.problem.columns import Ints
from puzzledsl.search.problem.instance import INFINITE, Goal, Problem, Row
from puzzledsl.search.problem.metrics import Child
from puzzledsl.search.problem.problem import Problems
from puzzledsl.search.problem.rows import without_larger
from puzzledsl.search.tables import Tables

MAX_ROUNDING_CUTS = 100
MOST_GUESSES = 3
GUESS_GAP = 2e-3
FEW_LABELS, LITTLE_WORK = 50_000, 0.1  # labels and CP-SAT seconds of a box's first try, if others wait
MORE = 8  # growth of the effort from one try to the next


@dataclass(frozen=True, slots=True)
class Found:
    """Best answer over all batches.

    `layers`: None without an answer. `bound`: proven bound on the objective, in its units; None if nothing is known. `proven`:
    the search was finished, so the answer is best within the gap, or none exists. `found_by` and `proved_by`: the engines that
    found the answer and that finished the last proof. `value`: the objective by the solver's integers, unless these are rounded;
    the verifier compares it with its own.
    """

    layers: tuple[LayerAssignment, ...] | None
    batches: dict[str, int]
    bound: Fraction | None
    proven: bool
    found_by: str = ""
    proved_by: str = ""
    value: Fraction | None = None


NOTHING = Found(None, {}, None, True)


def several(tables: Tables, problems: Problems, number: int, apart: int, effort: Effort) -> list[Found]:
    """Return up to `number` answers, any two of which differ in at least `apart` layers, each the best given those before.

    There are fewer if no more are found. The first entry is always present, also if it has no layers.
    """
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
    """Return the problems without the models that differ from `layers` in fewer than `apart` layers."""
    return problems.changed(lambda problem, _: problem.with_rows(problem.apart_from(layers, apart)))


def best_meeting_all(
    tables: Tables, problems: Problems, effort: Effort, floors: Floors | None = None
) -> Found:
    """Return the best answer that meets every requirement exactly.

    Answers of `best_of` that meet one only because its integers are rounded are cut off, up to MAX_ROUNDING_CUTS times.
    """
    known = {} if floors is None else floors
    return meeting_all(tables, problems, lambda cut: best_of(cut, effort, known), MAX_ROUNDING_CUTS)


def meeting_all(
    tables: Tables, problems: Problems, best: Callable[[Problems], Found], most_cuts: int
) -> Found:
    """Return the best answer that meets every requirement exactly, not only in rounded integers; others are cut off in turn."""
    for _ in range(most_cuts):
        found = best(problems)
        if found.layers is None:
            return found
        if is_right(tables, problems.at(Box.at(found.batches)), found.layers):
            return found
        problems = cut_off(problems, found.layers, 1)
    return replace(found, layers=None, proven=False)


def is_right(tables: Tables, problem: Problem, layers: tuple[LayerAssignment, ...]) -> bool:
    """True if an answer of a single box's problem meets the requirements exactly, not only in rounded integers."""
    if all(row.exact for row in problem.rows):
        return True
    child = Child(tables, layers, problem.batches)
    return all(map(child.fits, tables.scenarios)) and all(map(child.meets, tables.search.requirements))


def best_of(
    problems: Problems, effort: Effort, floors: Floors | None = None, *, canonical: bool = True
) -> Found:
    """Solve the problems of one search by branch and bound, best bound first.

    Ties of the objective are broken by the preferences, then by the smallest batches. `floors`: proven lower bounds on the sums
    of boxes; those proven here are added to it. They also hold for the same problems with more rows. `canonical` False: any of
    the best answers may be returned.
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
    """One run of branch and bound: the queue and the best answer so far. `proven`: all boxes solved so far were finished."""

    canonical: bool
    waiting: Waiting
    winner: Found = NOTHING
    proven: bool = True
    guesses: int = 0
    proved_by: str = ""

    @property
    def needs_a_guess(self) -> bool:
        """True if a heuristic answer should be sought first: without an incumbent, a box with few answers takes long to solve."""
        return self.winner.layers is None and self.guesses < MOST_GUESSES

    def guess(self, entry: Entry) -> None:
        """Look for a first answer: solve roughly at a box's largest and smallest batches and in its relaxation."""
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
        """Solve a single box exactly. If others wait and it takes long, postpone it and later continue with more effort."""
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
            self._reached(problem, outcome.chosen, reached, outcome.found_by)

    def _sought(
        self, entry: Entry, effort: Effort, *, canonical: bool
    ) -> tuple[Outcome, tuple[Fraction, ...]]:
        """Solve a box's problem among answers that may beat the incumbent. Return the outcome and the preferences' ranks."""
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
        """Solve the relaxation of a box with several batches.

        If it has no better answer, the box is pruned. Else its answer is tried at the batches that it runs at, and these batches
        and the box's halves are added to the queue.
        """
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
        """Take a model as an answer if it is feasible at the batches that it runs at. Return these, or None if there are none."""
        box = self.waiting.problems.box_of(layers, near)
        if box is None:
            return None
        problem = self.waiting.problems.at(box)
        chosen = problem.indices(layers)
        if chosen is not None and problem.is_feasible(chosen):
            unknown = [INFINITE] * len(problem.preferences)
            ranks = (problem.goal.rank(problem.goal.of(chosen)), *unknown)
            self._reached(problem, chosen, Incumbent(ranks, box, final=False), by)
        return box

    def _reached(self, problem: Problem, chosen: Ints, reached: Incumbent, by: str) -> None:
        best = self.waiting.best
        if best is None or reached.key < best.key or (reached.key == best.key and not best.final):
            self.waiting.best = reached
            layers, value = problem.choice(chosen), problem.goal.exact_value(chosen)
            self.winner = Found(layers, dict(problem.batches), None, True, by, value=value)


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
    """Minimise the objective, then each preference in turn among the best answers so far (lexicographic optimisation).

    Return the objective's outcome with the last answer, and the ranks of the preferences.
    """
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
    """Minimise in order if the objective is the same for every model, for example a batch: the first preference decides."""
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
    if after.chosen is None:  # out of time: keep the answer so far
        assert so_far.chosen is not None
        return replace(so_far, value=goal.of(so_far.chosen), proven=False)
    return after
