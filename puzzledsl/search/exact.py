"""The best answers of a search: over every combination of batches, with preferences, and several that differ."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from puzzledsl.ir.tables import LayerAssignment
from puzzledsl.search.bound import Bound, Floats, certify, lagrangian_bound
from puzzledsl.search.core import Outcome, minimise
from puzzledsl.search.cpsat import Effort
from puzzledsl.search.distinct import distinct
from puzzledsl.search.instance import INFINITE, Goal, Ints, Problem, Row
from puzzledsl.search.metrics import Child
from puzzledsl.search.prices import carried, nearer
from puzzledsl.search.tables import Tables

MAX_ROUNDING_CUTS = 100
FEW = 1.4  # columns a layer


@dataclass(frozen=True, slots=True)
class Found:
    """The best answer over all batches; `bound` is what no answer can beat, in the goal's units (None: nothing is known).

    `layers` is None when there is no answer: `proven` then says that none exists.
    """

    layers: tuple[LayerAssignment, ...] | None
    batches: dict[str, int]
    bound: Fraction | None
    proven: bool


def several(
    tables: Tables, problems: Sequence[Problem], number: int, apart: int, effort: Effort
) -> list[Found]:
    """Up to `number` answers, any two of which differ in `apart` layers or more, each the best given those before.

    Ends early with an answer that is not there; the first entry is always present.
    """
    if number > 1 and len(problems) == 1 and _plain(problems[0]):
        answers = distinct(problems[0], number, max(1, apart), effort)
        if answers is not None:
            return [_proven(problems[0], chosen) for chosen in answers]
    results: list[Found] = []
    floors: dict[int, int] = {}
    for left in reversed(range(number)):
        found = best_meeting_all(tables, problems, effort, floors)
        results.append(found)
        if found.layers is None or not left:
            break
        problems = [p.with_rows(p.apart_from(found.layers, max(1, apart))) for p in problems]
    return results if len(results) == 1 or results[-1].layers is not None else results[:-1]


def _plain(problem: Problem) -> bool:
    """Whether its answers, in order of the goal's integers, are the answers."""
    return not problem.preferences and problem.goal.exact and all(row.exact for row in problem.rows)


def _proven(problem: Problem, chosen: Ints) -> Found:
    bound = problem.goal.in_units(problem.goal.of(chosen))
    return Found(problem.choice(chosen), dict(problem.batches), bound, True)


def best_meeting_all(
    tables: Tables, problems: Sequence[Problem], effort: Effort, floors: dict[int, int] | None = None
) -> Found:
    """`best_of`, without answers that only meet a requirement because its integers are rounded (they are cut off)."""
    floors = {} if floors is None else floors
    for _ in range(MAX_ROUNDING_CUTS):
        found = best_of(problems, effort, floors)
        if found.layers is None or all(row.exact for problem in problems for row in problem.rows):
            return found
        child = Child(tables, found.layers, found.batches)
        if all(child.meets(r) for r in tables.search.requirements):
            return found
        problems = [p.with_rows(p.apart_from(found.layers, 1)) for p in problems]
    return replace(found, layers=None, proven=False)


def best_of(problems: Sequence[Problem], effort: Effort, floors: dict[int, int] | None = None) -> Found:
    """Solve the problems of one search, most promising bound first, leaving out those that cannot win.

    Equal goals are decided by the preferences, then by the order of `problems`. `floors` has proven bounds on the
    problems' sums by their place, and is given those that are proven here: they hold for the same problems with more rows too.
    """
    floors = {} if floors is None else floors
    waiting = _Waiting(problems)
    best: tuple[tuple[Fraction, ...], int] | None = None
    reached: tuple[Problem, int] | None = None
    winner = Found(None, {}, None, True)
    bounds: list[tuple[Fraction, Fraction | None]] = []
    proven = True

    def at_most(place: int) -> int | None:
        return None if best is None or reached is None else _to_win(problems[place], place, *reached, best[1])

    while (here := waiting.next(None if best is None else best[0][0], at_most)) is not None:
        place, bounded = here
        problem = problems[place]
        outcome, preferred = minimise_in_order(problem, effort, floors.get(place), bounded, at_most(place))
        proven = proven and outcome.proven
        if outcome.bound is not None:
            floors[place] = outcome.bound
            bounds.append((problem.goal.rank(outcome.bound), problem.goal.in_units(outcome.bound)))
        if outcome.chosen is not None and outcome.value is not None:
            key = ((problem.goal.rank(outcome.value), *preferred), place)
            if best is None or key < best:
                best, reached = key, (problem, outcome.value)
                winner = Found(problem.choice(outcome.chosen), dict(problem.batches), None, True)
    bound = min(bounds, key=lambda b: b[0])[1] if bounds else None
    return replace(winner, bound=bound, proven=proven)


def _to_win(problem: Problem, place: int, other: Problem, value: int, others_place: int) -> int | None:
    """The largest sum with which a problem wins against the best answer of another; None where their sums are not alike."""
    same = all(
        getattr(problem.goal, name) == getattr(other.goal, name)
        for name in ("unit", "constant", "sign", "upwards", "tokens")
    )
    if not same:
        return None
    return value if problem.preferences or place < others_place else value - 1


_Entry = tuple[Fraction, int, Bound | None, bool]  # rank, place, bound, ready to be solved


class _Waiting:
    """The problems that are not solved yet, most promising bound first.

    Prices near those of the problem before bound each well enough to order them. A problem's best prices are sought when its turn
    comes, where those of the last one do not do. A problem on its own is bounded by whoever solves it.
    """

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = problems
        self.queue: list[_Entry] = []
        self.last: tuple[Problem, Floats] | None = None  # what was bounded last, at good prices for it
        if len(problems) == 1:
            self.queue.append((-INFINITE, 0, None, True))
            return
        for place, problem in enumerate(problems):
            guess = self._guess(problem)
            if guess is None:
                self._put(place, self._own(problem), ready=True)
            else:
                self.last = problem, nearer(problem, guess)
                self._put(place, certify(*self.last), ready=False)

    def next(
        self, best: Fraction | None, at_most: Callable[[int], int | None]
    ) -> tuple[int, Bound | None] | None:
        """The next problem that may have an answer of rank `best`; None where there is none.

        `at_most(place)`: the largest sum with which a problem wins.
        """
        while self.queue and (best is None or self.queue[0][0] <= best):
            _, place, bound, ready = heapq.heappop(self.queue)
            if ready:
                return place, bound
            problem, most, guess = self.problems[place], at_most(place), self._guess(self.problems[place])
            near = None if guess is None or most is None else certify(problem, guess)
            if near is None or most is None or not _is_close(problem, near, most):
                near = self._own(problem)
            if best is None and not near.infeasible:
                return place, near  # whether it is first or nearly: its answer leaves out most others
            self._put(place, near, ready=True)
        return None

    def _put(self, place: int, bound: Bound, *, ready: bool) -> None:
        if not bound.infeasible:
            heapq.heappush(self.queue, (self.problems[place].goal.rank(bound.value), place, bound, ready))

    def _own(self, problem: Problem) -> Bound:
        bound = lagrangian_bound(problem, self._guess(problem))
        if not bound.infeasible:
            self.last = problem, bound.float_prices
        return bound

    def _guess(self, problem: Problem) -> Floats | None:
        """The last prices in this problem's units; None where there are none with the same rows."""
        if self.last is None or len(self.last[0].rows) != len(problem.rows):
            return None
        return carried(self.last[1], self.last[0], problem)


def _is_close(problem: Problem, bound: Bound, most: int) -> bool:
    """Whether a bound leaves so few columns that an answer of at most `most` may have that a better one would hardly help."""
    return bound.value > most or int(bound.within(most).sum()) <= FEW * problem.columns.layers


def minimise_in_order(
    problem: Problem,
    effort: Effort,
    floor: int | None = None,
    bound: Bound | None = None,
    at_most: int | None = None,
) -> tuple[Outcome, tuple[Fraction, ...]]:
    """Minimise the goal, then each preference in turn among the answers that are best so far; also the preferences' ranks."""
    first = outcome = minimise(
        problem, effort, not problem.preferences, at_least=floor, bound=bound, at_most=at_most
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


def _preferred(problem: Problem, goal: Goal, so_far: Outcome, effort: Effort, *, last: bool) -> Outcome:
    after = minimise(problem, replace(effort, gap=0.0), canonical=last)
    if after.chosen is None:  # out of time: keep what there is
        assert so_far.chosen is not None
        return replace(so_far, value=goal.of(so_far.chosen), proven=False)
    return after
