"""Shares of steps are the best in their box, and a chain knows where each sub-block's output is read."""

import itertools

import pytest
import torch

from puzzledsl.child.healing.fit import least_in_box
from puzzledsl.child.healing.layer import chain, first_changed, points
from tests.children import PARENT, Choice, define
from tests.export.variants import NA, NF, A, F

DROPPED: Choice = (NA, NF)


@pytest.mark.parametrize("seed", range(30))
def test_shares_are_at_least_as_good_as_any_on_a_grid(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    rank = seed % 3  # singular ones, too
    factor = torch.randn(2, rank, generator=generator, dtype=torch.float64)
    square, product = factor @ factor.T, torch.randn(2, generator=generator, dtype=torch.float64)

    def error(x: torch.Tensor) -> float:
        return float(x @ square @ x / 2 - product @ x)

    found = torch.tensor(least_in_box(square, product), dtype=torch.float64)
    assert bool(((found >= 0) & (found <= 1)).all())
    grid = [i / 20 for i in range(21)]
    best = min(error(torch.tensor(x, dtype=torch.float64)) for x in itertools.product(grid, grid))
    assert error(found) <= best + 1e-9


@pytest.mark.parametrize(
    ("layers", "goals", "changed"),
    [
        ([PARENT, PARENT], [1, 2, 3, 4], 4),
        ([PARENT, DROPPED, PARENT], [1, 4, 5, 6], 1),
        ([PARENT, (NA, F)], [1, 3, 4], 1),
        ([(A, NF), PARENT], [2, 3, 4], 0),
        ([DROPPED, PARENT], [3, 4], 0),
        ([PARENT, DROPPED], [1, 4], 1),
        ([DROPPED, DROPPED], [], 0),
    ],
)
def test_a_sub_block_aims_at_where_its_output_is_read(
    layers: list[Choice], goals: list[int], changed: int
) -> None:
    """The stream starts at point 0, so that a child without its first layer reads the embedding everywhere."""
    links = chain(define(layers).layers)
    assert [link.goal for link in links] == goals
    assert first_changed(links, points(len(layers))) == changed
