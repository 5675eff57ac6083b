"""Pairwise terms are the cross terms of the KL's second order, however the positions are cut into chunks."""

from __future__ import annotations

import pytest
import torch

from puzzledsl.scoring.pairwise import covariances, predicted

R, P, H, V = 4, 7, 6, 11


def states(scale: float) -> tuple[torch.nn.Linear, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    head = torch.nn.Linear(H, V, bias=False).requires_grad_(False)
    head.weight.copy_(torch.randn(V, H, generator=generator))
    parent = torch.randn(P, H, generator=generator)
    return head, parent, parent + scale * torch.randn(R, P, H, generator=generator)


def kl(head: torch.nn.Linear, parent: torch.Tensor, child: torch.Tensor) -> float:
    p, q = (head(h).double().log_softmax(-1) for h in (parent, child))
    return float((p.exp() * (p - q)).sum(-1).mean())


def test_covariances_are_those_of_the_definition() -> None:
    head, parent, children = states(0.5)
    p = head(parent).double().softmax(-1)
    change = [head(child).double() - head(parent).double() for child in children]
    centred = [d - (p * d).sum(-1, keepdim=True) for d in change]
    expected = torch.tensor([[(p * a * b).sum(-1).mean() for b in centred] for a in centred])
    torch.testing.assert_close(covariances(head, parent, children), expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("buffer_bytes", [1, 3 * R * V * 4, 2**20])
def test_the_buffer_changes_nothing(buffer_bytes: int) -> None:
    head, parent, children = states(0.5)
    whole = covariances(head, parent, children)
    torch.testing.assert_close(
        covariances(head, parent, children, buffer_bytes=buffer_bytes), whole, rtol=1e-6, atol=1e-8
    )


def test_small_changes_add_up_to_the_true_kl() -> None:
    head, parent, children = states(0.01)
    singles = [kl(head, parent, child) for child in children]
    covariance = covariances(head, parent, children)
    torch.testing.assert_close(covariance.diagonal() / 2, torch.tensor(singles).double(), rtol=0.05, atol=0)
    together = kl(head, parent, parent + (children - parent).sum(0))
    assert predicted(singles, covariance) == pytest.approx(together, rel=0.05)
    assert sum(singles) != pytest.approx(together, rel=0.15)  # alone, they do not
