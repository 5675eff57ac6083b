"""The cells of a grid hold every part that completes a model."""

from __future__ import annotations

import numpy as np
import pytest

from puzzledsl.search.label_setting.suffixes import grid_of, pairs_of


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
    found = pairs_of(grid, room, left, weights, spare)
    assert found is not None
    pairs = set(zip(found[0].tolist(), grid.order[found[1]].tolist(), strict=True))
    rest = room[:, :, None] - use[:, None]
    fits = (rest >= 0).all(axis=0) & (goal <= spare[:, None])
    good = fits & (np.tensordot(weights, rest, axes=1) <= left[:, None])
    assert {*zip(*(place.tolist() for place in good.nonzero()), strict=True)} <= pairs
    assert all(fits[pair] for pair in pairs)
