"""Sums over tokens, the least squares they solve, channel elimination against its definition, and what a refit must do."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import tests.tiny  # noqa: F401  # one thread
from puzzledsl.models.least_squares import grams
from puzzledsl.models.least_squares.grams import (
    Gram,
    contribution_order,
    damped,
    elimination_order,
    refit_down,
    ridge_of,
    solve_ridge,
)


def data(tokens: int, inputs: int, outputs: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(tokens, inputs, generator=generator) * torch.linspace(0.1, 3, inputs) + 0.5
    y = x @ torch.randn(inputs, outputs, generator=generator)
    return x, y + torch.randn(tokens, outputs, generator=generator)


def gram_of(x: torch.Tensor, y: torch.Tensor, pieces: int = 3) -> Gram:
    gram = Gram.zeros(x.shape[1], y.shape[1])
    for part_x, part_y in zip(x.chunk(pieces), y.chunk(pieces), strict=True):
        gram.add(part_x, part_y)
    return gram


@given(
    tokens=st.integers(3, 60), inputs=st.integers(1, 9), outputs=st.integers(1, 5), pieces=st.integers(1, 3)
)
def test_sums_do_not_depend_on_the_chunks(tokens: int, inputs: int, outputs: int, pieces: int) -> None:
    x, y = data(tokens, inputs, outputs)
    gram = gram_of(x, y, pieces)
    ones = torch.cat([x, torch.ones(tokens, 1)], 1).double()
    torch.testing.assert_close(gram.augmented(), ones.T @ ones, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(gram.xy, (x.double().T @ y.double()), rtol=1e-5, atol=1e-4)
    assert gram.yy == pytest.approx(float(y.double().square().sum()), rel=1e-6)
    assert gram.tokens == tokens


@given(
    tokens=st.integers(1, 40),
    inputs=st.integers(1, 8),
    started=st.booleans(),
    relative=st.sampled_from([1e-4, 0.1, 3.0]),
)
def test_ridge_is_the_optimum(tokens: int, inputs: int, started: bool, relative: float) -> None:
    """The gradient of ||XW - Y||^2 + ridge ||W - start||^2 is zero there, also with fewer tokens than inputs."""
    x, y = data(tokens, inputs, 3)
    gram = gram_of(x, y, 1)
    start = torch.ones(inputs, 3, dtype=torch.float64) if started else None
    weights = solve_ridge(gram.xx, gram.xy, start, relative=relative)
    pull = weights if start is None else weights - start
    gradient = gram.xx @ weights - gram.xy + ridge_of(gram.xx, relative) * pull
    assert gradient.abs().max() <= 1e-8 * (1 + gram.xy.abs().max() + gram.xx.abs().max())


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


def test_silent_and_unread_channels_go_first() -> None:
    activations, _, down = problem(40)
    activations[:, [3, 17]] = 0
    down[[5, 30]] = 0
    gram = Gram.zeros(40, 0)
    gram.add(activations)
    order = elimination_order(gram.xx, down)
    assert set(order[:4].tolist()) == {3, 17, 5, 30}
    assert set(contribution_order(activations.abs().sum(0), down)[:4].tolist()) == {3, 17, 5, 30}


def test_a_refit_is_nearer_than_the_rows_it_started_from_and_exact_with_all_channels() -> None:
    activations, gram, down = problem(30)
    kept = torch.arange(0, 30, 2)
    target = activations @ down
    before = (activations[:, kept] @ down[kept] - target).square().sum()
    after = (activations[:, kept] @ refit_down(gram, down, kept) - target).square().sum()
    assert after < 0.9 * before
    torch.testing.assert_close(refit_down(gram, down, torch.arange(30)), down, rtol=0, atol=0)


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
