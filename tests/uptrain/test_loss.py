"""The chunked losses are the plain ones, in value and in gradient, and never hold all logits."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from puzzledsl.uptrain.model import IGNORED, cosine_loss, logit_loss

N, H, V = 23, 6, 31


def inputs(seed: int) -> tuple[torch.Tensor, ...]:
    g = torch.Generator().manual_seed(seed)
    labels = torch.randint(V, (N,), generator=g)
    labels[[3, 11]] = IGNORED
    child, child_v, parent, parent_v = (torch.randn(size, H, generator=g) for size in (N, V, N, V))
    return child, child_v, parent, parent_v, labels


def plain(child, child_v, parent, parent_v, labels, kld, lm):
    """Written out, in float64."""
    q, p = (child @ child_v.T).log_softmax(-1), (parent @ parent_v.T).log_softmax(-1)
    kl = (p.exp() * (p - q)).sum(-1).mean()
    return kld * kl + lm * F.nll_loss(q, labels, ignore_index=IGNORED), kl


@settings(deadline=None)
@given(
    seed=st.integers(0, 50),
    chunk=st.integers(1, 30),
    kld=st.sampled_from([0.0, 1.0, 0.3]),
    lm=st.sampled_from([0.0, 0.7]),
)
def test_value_and_gradient_are_those_of_full_logits(seed, chunk, kld, lm):
    child, child_v, parent, parent_v, labels = inputs(seed)
    ours = [child.clone().requires_grad_(), child_v.clone().requires_grad_()]
    total, kl, _ = logit_loss(*ours, parent, parent_v, labels, kld=kld, lm=lm, chunk=chunk)
    (2.5 * total).backward()
    oracle = [child.double().requires_grad_(), child_v.double().requires_grad_()]
    wanted, wanted_kl = plain(*oracle, parent.double(), parent_v.double(), labels, kld, lm)
    (2.5 * wanted).backward()
    assert total.item() == pytest.approx(wanted.item(), rel=1e-5, abs=1e-6)
    assert kl.item() == pytest.approx(wanted_kl.item(), rel=1e-5, abs=1e-6)
    for mine, theirs in zip(ours, oracle, strict=True):
        torch.testing.assert_close(mine.grad.double(), theirs.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("learned_M", [None, torch.tensor([1, 5, 6, 15])])
def test_the_cosine_keeps_no_float32_copies(dtype: torch.dtype, learned_M: torch.Tensor | None) -> None:
    """Only the 16-bit streams themselves are kept; loss and gradients are those of the formula, bit for bit."""
    g = torch.Generator().manual_seed(3)
    child_LNH, parent_LNH = ([torch.randn(N, H, generator=g).to(dtype) for _ in range(3)] for _ in range(2))
    for states in child_LNH:
        states.requires_grad_()
    kept: list[int] = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor.nbytes)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        found = cosine_loss([c.unflatten(0, (1, N)) for c in child_LNH], parent_LNH, learned_M)
    rows = slice(None) if learned_M is None else learned_M
    angles = [
        F.cosine_similarity(c[rows].float(), p[rows].float(), dim=-1).mean()
        for c, p in zip(child_LNH, parent_LNH, strict=True)
    ]
    expected = torch.stack([1 - angle for angle in angles]).mean()
    assert torch.equal(found, expected)
    ours, theirs = (torch.autograd.grad(loss, child_LNH) for loss in (found, expected))
    assert all(torch.equal(one, two) for one, two in zip(ours, theirs, strict=True))
    if dtype == torch.bfloat16 and learned_M is None:
        assert sum(kept) == 2 * 3 * N * H * 2, "child and parent, two bytes each"
