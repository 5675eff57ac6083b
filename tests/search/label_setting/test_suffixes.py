"""The index holds every part that completes a model."""

from __future__ import annotations

import numpy as np
import pytest

from puzzledsl.search.label_setting.sweep import Index


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("typical", [1, 150, 5000])
def test_an_index_loses_no_part_that_leaves_little_enough(seed: int, typical: int) -> None:
    rng = np.random.default_rng(seed)
    rows, parts, models = int(rng.integers(1, 5)), 300, 40
    use = rng.integers(0, 100, (rows, parts))
    room = rng.integers(-10, 130, (rows, models))
    weights, left = rng.integers(1, 9, rows), rng.integers(0, 300, models)
    goal, spare = rng.integers(0, 50, parts), rng.integers(-5, 60, models)
    slack = rng.integers(0, 60, parts)
    index = Index(np.vstack([goal, use]), slack, weights, typical)
    found = index.pairs(np.vstack([spare, room]), left, parts * models)
    assert found is not None
    pairs = set(zip(found[0].tolist(), found[1].tolist(), strict=True))
    rest = room[:, :, None] - use[:, None]
    fits = (rest >= 0).all(axis=0) & (goal <= spare[:, None])
    good = fits & (np.tensordot(weights, rest, axes=1) + slack <= left[:, None])
    assert {*zip(*(place.tolist() for place in good.nonzero()), strict=True)} <= pairs
    assert all(fits[pair] for pair in pairs)
    assert len(pairs) == len(found[0]) <= found[2]


def test_an_index_gives_up_beyond_the_pairs_to_try() -> None:
    use, models = np.zeros((1, 50), dtype=np.int64), np.full(4, 10)
    index = Index(np.vstack([use, use]), use[0], np.ones(1), 10)
    assert index.pairs(np.vstack([models, models]), models, 200) is not None
    assert index.pairs(np.vstack([models, models]), models, 199) is None
