"""Changes to answers against all models of small problems."""

from __future__ import annotations

from itertools import combinations

import pytest

from puzzledsl.search.lagrangian.bound import Bound, lagrangian_bound
from puzzledsl.search.local_search import Changes, changes_of, pairs_that_fit
from puzzledsl.search.portfolio.ledger import bound_enough, within_gap
from puzzledsl.search.problem.columns import Ints
from puzzledsl.search.problem.instance import Problem
from tests.search.random_problems import FAMILIES, every_answer, random_problem

EACH = 12  # problems of each family


def start(family: str, seed: int) -> tuple[Problem, Bound, Ints] | None:
    """A problem, its bound and one of its answers; None where it has none."""
    problem = random_problem(family, seed)
    answers = every_answer(problem)
    if not len(answers):
        return None
    return problem, lagrangian_bound(problem), answers[len(answers) // 2]


def everything(problem: Problem, bound: Bound, chosen: Ints) -> Changes:
    """All changes to an answer."""
    return changes_of(problem, bound, chosen, int(problem.columns.most(problem.goal.values).sum()), 10**6)


def fitting(changes: Changes, room: Ints, size: int, spare: int) -> set[tuple[int, ...]]:
    """Sets of changes of different layers that fit, by trying all."""
    found = set()
    for which in combinations(range(len(changes)), size):
        rows = changes.rows[:, which].sum(axis=1)
        apart = len({*changes.layers[list(which)].tolist()}) == size
        if apart and (rows <= room).all() and changes.goals[list(which)].sum() <= spare:
            found.add(which)
    return found


@pytest.mark.parametrize("family", FAMILIES)
def test_pairs_are_all_those_that_fit_the_best_first(family: str) -> None:
    for seed in range(EACH):
        if (it := start(family, seed)) is None:
            continue
        problem, bound, chosen = it
        changes = everything(problem, bound, chosen)
        room = problem.limits - problem.matrix[:, chosen].sum(axis=1)
        pairs, totals = pairs_that_fit(changes, room)
        found = {tuple(sorted({*pair})) for pair in pairs.tolist()}
        assert found == fitting(changes, room, 1, -1) | fitting(changes, room, 2, -1), seed
        assert totals.tolist() == sorted(totals.tolist())


def test_a_bound_that_is_enough_is_within_the_gap_and_none_below_is() -> None:
    goal = random_problem(FAMILIES[0], 0).goal
    for value in (10_000, 123_456):
        for gap in (1e-3, 0.2):
            least = bound_enough(goal, value, 0, gap)
            assert within_gap(goal, value, least, gap) and not within_gap(goal, value, least - 1, gap)
    assert bound_enough(goal, 10_000, 9_999, 0.5) == 9_999
