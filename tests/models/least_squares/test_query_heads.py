"""Leaving out query heads: what is free goes first, equally many of each group, and the refit makes up for the rest."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from puzzledsl.models.least_squares.grams import Gram
from puzzledsl.models.least_squares.heads import kept_heads, loudest_heads, refit_rows, rows_of

HEADS, DIM, HIDDEN = 6, 4, 10


def made(seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(8000, HEADS * DIM, generator=generator, dtype=torch.float64)
    return x, torch.randn(HEADS * DIM, HIDDEN, generator=generator, dtype=torch.float64)


def sums(x: Tensor, y: Tensor) -> Gram:
    gram = Gram.zeros(x.shape[1], y.shape[1])
    gram.add(x, y)
    return gram


@pytest.mark.parametrize("choose", [kept_heads, loudest_heads])
@pytest.mark.parametrize("groups", [1, 2, 3])
def test_equally_many_stay_of_each_group(choose, groups: int) -> None:
    x, weight = made()
    kept = choose(x.T @ x, weight, HEADS, groups, groups)
    assert [head // (HEADS // groups) for head in kept] == list(range(groups))
    assert choose(x.T @ x, weight, HEADS, groups, HEADS) == list(range(HEADS))


@pytest.mark.parametrize("choose", [kept_heads, loudest_heads])
def test_heads_without_effect_go_first(choose) -> None:
    x, weight = made()
    weight[rows_of([1, 4], DIM)] = 0
    assert choose(x.T @ x, weight, HEADS, 2, 4) == [0, 2, 3, 5]


def test_a_head_that_others_can_replace_goes_without_loss() -> None:
    """Head 2 is the sum of heads 0 and 1: loud, and superfluous."""
    x, weight = made()
    x[:, rows_of([2], DIM)] = x[:, rows_of([0], DIM)] + x[:, rows_of([1], DIM)]
    gram, y = sums(x, x @ weight), x @ weight
    kept = kept_heads(gram.xx, weight, HEADS, 2, 4)
    assert len({0, 1, 2} & set(kept)) == 2
    one = sorted({*kept} | {3, 4, 5})
    rows = rows_of(one, DIM)
    fitted = refit_rows(gram, weight, rows)
    lost = (x[:, rows] @ fitted - y).square().sum() / y.square().sum()
    cut = (x[:, rows] @ weight[rows] - y).square().sum() / y.square().sum()
    assert lost < 0.05 * cut


def test_greedy_is_the_best_single_removal() -> None:
    for seed in range(5):
        x, weight = made(seed)
        gram = sums(x, x @ weight)
        found = kept_heads(gram.xx, weight, HEADS, 1, HEADS - 1)

        def loss(head: int, gram: Gram = gram, x: Tensor = x, weight: Tensor = weight) -> float:
            rows = rows_of([h for h in range(HEADS) if h != head], DIM)
            return float(
                (x[:, rows] @ torch.linalg.lstsq(x[:, rows], x @ weight).solution - x @ weight).square().sum()
            )

        losses = [loss(head) for head in range(HEADS)]
        (gone,) = set(range(HEADS)) - set(found)
        assert losses[gone] < 1.1 * min(losses)
