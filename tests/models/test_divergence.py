"""The KL divergence of two models is the plain one, and chunks change nothing but memory."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from puzzledsl.models.divergence import kl_divergence, summed_kl

N, H, V = 23, 6, 31


def states_and_head(seed: int) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(N, H, generator=g), torch.randn(V, H, generator=g)


def summed(parent: tuple[Tensor, Tensor], child: tuple[Tensor, Tensor], **chunk: int) -> float:
    return summed_kl(
        parent[0], child[0], lambda rows: rows @ parent[1].T, lambda rows: rows @ child[1].T, **chunk
    )


def test_it_is_the_plain_sum_in_float64() -> None:
    parent, child = states_and_head(0), states_and_head(1)
    log_p, log_q = ((h.double() @ w.double().T).log_softmax(-1) for h, w in (parent, child))
    wanted = (log_p.exp() * (log_p - log_q)).sum(-1)
    assert torch.allclose(kl_divergence(log_p, log_q), wanted)
    for chunk in ({}, {"chunk": 7}, {"chunk": 1}):
        assert summed(parent, child, **chunk) == pytest.approx(float(wanted.sum()), rel=1e-6)


def test_a_model_differs_from_itself_by_nothing() -> None:
    parent = states_and_head(2)
    assert summed(parent, parent) == pytest.approx(0, abs=1e-6)
    assert summed(parent, states_and_head(3)) > 1


def test_no_more_than_a_chunk_of_logits_exists() -> None:
    (states, head), seen = states_and_head(4), []

    def logits(rows: Tensor) -> Tensor:
        seen.append(len(rows))
        return rows @ head.T

    summed_kl(states, states, logits, logits, chunk=5)
    assert max(seen) == 5 and sum(seen) == 2 * N
