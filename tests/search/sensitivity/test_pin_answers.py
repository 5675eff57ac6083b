"""An answer bounds the optimum of each pin that it has; the cells of a grid hold every part that completes a model."""

from __future__ import annotations

import numpy as np
import pytest

from puzzledsl.search.label_setting.grid import grid_of, pairs_of
from puzzledsl.search.sensitivity.pin_answers import PinsOfColumns
from puzzledsl.search.sensitivity.pins import pins_of
from tests.search.random_problems import FAMILIES, every_answer, random_problem


@pytest.mark.parametrize("family", FAMILIES)
def test_the_best_answer_of_each_pin_is_the_least_that_has_it(family: str) -> None:
    problem = random_problem(family, 3)
    answers = every_answer(problem)[:50]
    values = problem.goal.values[answers].sum(axis=1)
    pins = pins_of(problem.columns)
    found = dict(PinsOfColumns.of(problem, pins).best(answers, values))
    for number, pin in enumerate(pins):
        has = np.isin(answers[:, pin.layer], pin.columns).nonzero()[0]
        assert (number in found) == bool(len(has))
        if len(has):
            assert found[number] == has[np.argmin(values[has])]


def test_pins_that_are_not_listed_have_no_answer() -> None:
    problem = random_problem(FAMILIES[0], 3)
    some = pins_of(problem.columns)[1:3]
    answers = problem.columns.start[:-1][None]
    assert {number for number, _ in PinsOfColumns.of(problem, some).best(answers, np.zeros(1, np.int64))} <= {
        0,
        1,
    }
    assert not [*PinsOfColumns.of(problem, some).best(answers[:0], np.zeros(0, np.int64))]


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("cells", [1, 4, 200])
def test_a_grid_loses_no_part_that_leaves_little_enough(seed: int, cells: int) -> None:
    rng = np.random.default_rng(seed)
    rows, parts, models = int(rng.integers(1, 5)), 300, 40
    use = rng.integers(0, 100, (rows, parts))
    room = rng.integers(-10, 130, (rows, models))
    weights, left = rng.integers(1, 9, rows), rng.integers(0, 300, models)
    goal, spare = rng.integers(0, 50, parts), rng.integers(-5, 60, models)
    grid = grid_of(use, goal, weights, 150, cells)
    found = pairs_of(grid, room, left, weights, spare, parts)
    assert found is not None
    pairs = set(zip(found[0].tolist(), grid.order[found[1]].tolist(), strict=True))
    rest = room[:, :, None] - use[:, None]
    fits = (rest >= 0).all(axis=0) & (goal <= spare[:, None])
    good = fits & (np.tensordot(weights, rest, axes=1) <= left[:, None])
    assert {*zip(*(place.tolist() for place in good.nonzero()), strict=True)} <= pairs
    assert all(fits[pair] for pair in pairs)
