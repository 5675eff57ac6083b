"""Changes to answers, and walks along them, against all models of small problems."""

from __future__ import annotations

from itertools import combinations

import pytest

from puzzledsl.search.effort import Effort
from puzzledsl.search.lagrangian.bound import Bound, lagrangian_bound
from puzzledsl.search.local_search import exchange
from puzzledsl.search.local_search.exchange import Changes, changes_of, fours_that_fit, pairs_that_fit
from puzzledsl.search.local_search.local_search import walked
from puzzledsl.search.portfolio import minimise as core
from puzzledsl.search.portfolio.gaps import bound_enough, good_enough, within_gap
from puzzledsl.search.portfolio.minimise import minimise
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


@pytest.mark.parametrize("family", FAMILIES)
def test_fours_are_all_those_that_fit_within_what_an_answer_leaves(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "FIRST", 10**6)
    tried = 0
    for seed in range(4 * EACH):
        if (it := start(family, seed)) is None or not any(it[1].prices):
            continue
        problem, bound, chosen = it
        changes = everything(problem, bound, chosen)
        if len({*changes.layers.tolist()}) < 4:
            continue
        some = slice(0, 10)
        changes = Changes(
            changes.columns[some],
            changes.layers[some],
            changes.goals[some],
            changes.rows[:, some],
            changes.slack[some],
        )
        room = problem.limits - problem.matrix[:, chosen].sum(axis=1)
        spare = 300 + abs(problem.goal.of(chosen)) // 10
        left = (problem.goal.of(chosen) + spare) * bound.scale - bound.exact
        fours, totals = fours_that_fit(changes, bound, room, spare, left)
        assert {tuple(sorted(four)) for four in fours.tolist()} == fitting(changes, room, 4, spare), seed
        assert totals.tolist() == sorted(changes.goals[fours].sum(axis=1).tolist())
        tried += len(fours)
    assert tried or family == "roomy"  # where all rows are roomy, none has a price


@pytest.mark.parametrize("family", FAMILIES)
def test_a_walk_finds_answers_each_better_than_all_before(family: str) -> None:
    for seed in range(EACH):
        if (it := start(family, seed)) is None:
            continue
        problem, bound, chosen = it
        value = problem.goal.of(chosen)
        for better in walked(problem, bound, chosen):
            assert problem.is_feasible(better)
            assert problem.goal.of(better) < value
            value = problem.goal.of(better)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("gap", [0.3, 0.01, 1e-4])
def test_an_answer_in_haste_is_within_the_gap_of_the_best(
    family: str, gap: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where there are many columns: a narrow sweep first, then walks, then a proof as far as that takes."""
    monkeypatch.setattr(core, "MANY", 0)
    for seed in range(EACH):
        problem = random_problem(family, seed)
        values = problem.goal.values[every_answer(problem)].sum(axis=1)
        found = minimise(problem, Effort.of(60, gap))
        assert found.proven, seed
        if not len(values):
            assert found.chosen is None
            continue
        assert found.chosen is not None and found.value is not None and found.bound is not None
        assert problem.is_feasible(found.chosen) and problem.goal.of(found.chosen) == found.value
        assert found.bound <= values.min() <= found.value
        assert within_gap(problem.goal, found.value, found.bound, gap), seed


def test_what_is_good_enough_is_within_the_gap_and_no_more_is() -> None:
    problem = random_problem(FAMILIES[0], 0)
    goal = problem.goal
    for bound in (10_000, 123_456):
        for gap in (1e-3, 0.2):
            most = good_enough(goal, bound, 10**7, gap)
            assert within_gap(goal, most, bound, gap) and not within_gap(goal, most + 1, bound, gap)
            least = bound_enough(goal, most, 0, gap)
            assert within_gap(goal, most, least, gap) and not within_gap(goal, most, least - 1, gap)
    assert good_enough(goal, 10_000, 10_001, 0.5) == 10_001
    assert bound_enough(goal, 10_000, 9_999, 0.5) == 9_999
