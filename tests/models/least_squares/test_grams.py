"""Sums over tokens and the least squares they solve."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from puzzledsl.models.least_squares.grams import (
    TOWARDS_START,
    TOWARDS_ZERO,
    Gram,
    ridge_of,
    solve_ridge,
)
from tests.tiny import tiny_tokens  # one thread

assert tiny_tokens


def data(tokens: int, inputs: int, outputs: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(tokens, inputs, generator=generator) * torch.linspace(0.1, 3, inputs) + 0.5
    y = x @ torch.randn(inputs, outputs, generator=generator) + torch.randn(
        tokens, outputs, generator=generator
    )
    return x, y


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


def test_nothing_seen_means_nothing_moved() -> None:
    start = torch.randn(4, 2, dtype=torch.float64)
    gram = Gram.zeros(4, 2)
    assert torch.equal(solve_ridge(gram.xx, gram.xy, start), start)


@pytest.mark.parametrize("strength", [TOWARDS_START, TOWARDS_ZERO])
def test_more_tokens_are_trusted_more(strength: float) -> None:
    ridges = []
    for tokens in (10, 100, 10**9):
        gram = Gram.zeros(20, 1)
        gram.tokens = tokens
        ridges.append(gram.ridge(strength))
    assert ridges == sorted(ridges, reverse=True)
    assert ridges[0] == strength * 2
    assert ridges[-1] == pytest.approx(1e-4)
