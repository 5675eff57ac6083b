"""Changes to answers against all models of small problems."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from puzzledsl.search.local_search import pairs_that_fit
from puzzledsl.search.portfolio.branching import bound_enough, within_gap
from puzzledsl.search.problem.columns import Ints
from tests.search.random_problems import FAMILIES, every_answer, random_problem

EACH = 12  # problems of each family


def fitting(changes: Ints, layers: Ints, room: Ints, size: int) -> set[tuple[int, ...]]:
    """Sets of changes of different layers that fit, by trying all."""
    found = set()
    for which in combinations(range(len(layers)), size):
        apart = len({*layers[list(which)].tolist()}) == size
        if apart and (changes[:, which].sum(axis=1) <= room).all():
            found.add(which)
    return found


@pytest.mark.parametrize("family", FAMILIES)
def test_pairs_are_all_those_that_fit_the_best_first(family: str) -> None:
    for seed in range(EACH):
        problem = random_problem(family, seed)
        answers = every_answer(problem)
        if not len(answers):
            continue
        chosen, layers = answers[len(answers) // 2], problem.columns.layer_of
        figures = np.vstack([problem.goal.values, problem.matrix])
        changes = figures - figures[:, chosen[layers]]
        room = np.append(-1, problem.limits - problem.matrix[:, chosen].sum(axis=1))
        pairs = pairs_that_fit(changes, layers, room)
        found = [tuple(sorted({*pair})) for pair in pairs.tolist()]
        assert {*found} == fitting(changes, layers, room, 1) | fitting(changes, layers, room, 2), seed
        totals = [int(changes[0, list(pair)].sum()) for pair in found]
        assert totals == sorted(totals)


def test_a_bound_that_is_enough_is_within_the_gap_and_none_below_is() -> None:
    goal = random_problem(FAMILIES[0], 0).goal
    for value in (10_000, 123_456):
        for gap in (1e-3, 0.2):
            least = bound_enough(goal, value, 0, gap)
            assert within_gap(goal, value, least, gap) and not within_gap(goal, value, least - 1, gap)
    assert bound_enough(goal, 10_000, 9_999, 0.5) == 9_999
