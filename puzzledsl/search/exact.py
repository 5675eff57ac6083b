"""The best answers of a search: over every combination of batches, with preferences, and several that differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from puzzledsl.ir.tables import LayerAssignment
from puzzledsl.search.bound import Bound, lagrangian_bound
from puzzledsl.search.core import Outcome, minimise
from puzzledsl.search.cpsat import Effort
from puzzledsl.search.distinct import distinct
from puzzledsl.search.instance import INFINITE, Goal, Ints, Problem, Row
from puzzledsl.search.metrics import Child
from puzzledsl.search.prices import carried
from puzzledsl.search.tables import Tables

MAX_ROUNDING_CUTS = 100


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
    order = _by_bound(problems) if len(problems) > 1 else [(-INFINITE, 0, None)]
    best: tuple[tuple[Fraction, ...], int] | None = None
    reached: tuple[Problem, int] | None = None
    winner = Found(None, {}, None, True)
    bounds: list[tuple[Fraction, Fraction | None]] = []
    proven = True
    for rank, place, bounded in order:
        problem = problems[place]
        if best is not None and rank > best[0][0]:
            break  # and so is every later one
        at_most = None if best is None or reached is None else _to_win(problem, place, *reached, best[1])
        outcome, preferred = minimise_in_order(problem, effort, floors.get(place), bounded, at_most)
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


def _by_bound(problems: Sequence[Problem]) -> list[tuple[Fraction, int, Bound | None]]:
    """The problems that may have an answer, best bound first, with it. Prices of one are a guess for the next."""
    order: list[tuple[Fraction, int, Bound | None]] = []
    before: tuple[Problem, Bound] | None = None
    for place, problem in enumerate(problems):
        guess = None
        if before is not None and len(before[0].rows) == len(problem.rows):
            guess = carried(before[1].float_prices, before[0], problem)
        bound = lagrangian_bound(problem, guess)
        if not bound.infeasible:
            order.append((problem.goal.rank(bound.value), place, bound))
            before = problem, bound
    return sorted(order, key=lambda o: o[:2])


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
