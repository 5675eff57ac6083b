"""Channel elimination against its definition, and what a refit must do."""

from __future__ import annotations

import pytest
import torch

from puzzledsl.models.least_squares.grams import (
    Gram,
    contribution_order,
    damped,
    elimination_order,
    refit_down,
)
from tests.tiny import tiny_tokens

assert tiny_tokens


def problem(channels: int, hidden: int = 7, tokens: int = 400, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(channels, channels, generator=generator) * 0.4 + torch.eye(channels)
    activations = torch.randn(tokens, channels, generator=generator) @ mix
    activations *= torch.rand(channels, generator=generator) + 0.05
    gram = Gram.zeros(channels, 0)
    gram.add(activations)
    return activations.double(), gram, torch.randn(channels, hidden, generator=generator).double()


def greedy_by_definition(gram: torch.Tensor, down: torch.Tensor) -> list[int]:
    """Each time remove the channel whose loss is least when all the others are solved for anew."""
    raised = damped(gram)
    alive, order = list(range(len(gram))), []

    def error(kept: list[int]) -> float:
        if not kept:
            return float((down * (raised @ down)).sum())
        refit = torch.linalg.solve(raised[kept][:, kept], raised[kept] @ down)
        left = down.clone()
        left[kept] -= refit
        return float((left * (raised @ left)).sum())

    while alive:
        worst = min(alive, key=lambda c: error([k for k in alive if k != c]))
        alive.remove(worst)
        order.append(worst)
    return order


@pytest.mark.parametrize("seed", range(4))
def test_one_by_one_the_order_is_greedy_by_definition(seed: int) -> None:
    _, gram, down = problem(14, seed=seed)
    assert elimination_order(gram.xx, down).tolist() == greedy_by_definition(gram.xx, down)


def kept_error(gram: torch.Tensor, down: torch.Tensor, kept: torch.Tensor) -> float:
    left = down.clone()
    left[kept] -= torch.linalg.solve(gram[kept][:, kept], gram[kept] @ down)
    return float((left * (gram @ left)).sum() / (down * (gram @ down)).sum())


def test_blocks_lose_next_to_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """At every width, elimination in blocks errs at most 1 % more than one channel at a time, and far less than chance."""
    from puzzledsl.models.least_squares import grams

    _, gram, down = problem(160, tokens=1500, seed=2)
    blocks = elimination_order(gram.xx, down)
    monkeypatch.setattr(grams, "MAX_BLOCK", 1)
    single = elimination_order(gram.xx, down)
    assert not torch.equal(blocks, single)  # blocks were used at all
    chance = torch.randperm(160, generator=torch.Generator().manual_seed(0))
    for width in (120, 80, 40, 16):
        error = kept_error(gram.xx, down, blocks[-width:])
        assert error <= 1.01 * kept_error(gram.xx, down, single[-width:])
        assert error < 0.9 * kept_error(gram.xx, down, chance[-width:])


@pytest.mark.parametrize("channels", [1, 2, 50, 200])
def test_the_order_names_each_channel_once(channels: int) -> None:
    _, gram, down = problem(channels)
    for order in (elimination_order(gram.xx, down), contribution_order(gram.xx.diagonal(), down)):
        assert sorted(order.tolist()) == list(range(channels))


def test_silent_and_unread_channels_go_first() -> None:
    activations, _, down = problem(40)
    activations[:, [3, 17]] = 0
    down[[5, 30]] = 0
    gram = Gram.zeros(40, 0)
    gram.add(activations)
    order = elimination_order(gram.xx, down)
    assert set(order[:4].tolist()) == {3, 17, 5, 30}
    assert set(contribution_order(activations.abs().sum(0), down)[:4].tolist()) == {3, 17, 5, 30}


def test_a_copy_of_a_channel_is_free() -> None:
    """Two equal channels: one goes without any loss, because the other's row takes over."""
    activations, _, down = problem(20, tokens=100_000)
    activations[:, 11] = activations[:, 4]
    gram = Gram.zeros(20, 0)
    gram.add(activations)
    assert elimination_order(gram.xx, down)[0] in (4, 11)
    kept = torch.tensor([c for c in range(20) if c != 11])
    refit = refit_down(gram, down, kept)
    error = (activations[:, kept] @ refit - activations @ down).square().sum()
    assert error < 1e-3 * (activations @ down).square().sum()


def test_a_refit_is_nearer_than_the_rows_it_started_from() -> None:
    activations, gram, down = problem(30)
    kept = torch.arange(0, 30, 2)
    target = activations @ down
    before = (activations[:, kept] @ down[kept] - target).square().sum()
    after = (activations[:, kept] @ refit_down(gram, down, kept) - target).square().sum()
    assert after < 0.9 * before


def test_a_refit_of_all_channels_is_exact() -> None:
    _, gram, down = problem(30)
    torch.testing.assert_close(refit_down(gram, down, torch.arange(30)), down, rtol=0, atol=0)
