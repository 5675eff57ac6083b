"""The pretended GPU refuses and counts what a real one would."""

import pytest
import torch
import torch.nn.functional as F

from tests.pretended_gpu import Gpu


@pytest.mark.parametrize(
    "wrong",
    [
        lambda x, y: x + y,
        lambda x, y: torch.cat([x, y]),
        lambda x, y: F.linear(x[None], y[None]),
        lambda x, y: y[:2].requires_grad_().mul(y[:2]).sum().backward() or x.dot(y),
    ],
)
def test_two_devices_do_not_mix(pretended: Gpu, wrong):
    with pytest.raises(RuntimeError, match="same device"):
        wrong(torch.ones(3, device="cuda"), torch.ones(3))


def test_waits_are_counted_where_they_are(pretended: Gpu):
    y = torch.ones(4, device="cuda")
    assert not pretended.waits
    float(y[0])
    bool((y > 0).all())
    y.tolist()
    y[y > 0]
    y.nonzero()
    y.cpu()
    torch.tensor([1.0], device="cuda")
    torch.cuda.synchronize()
    assert pretended.waits.total() == 8 and all("test_pretended_gpu.py:" in site for site in pretended.waits)
    pretended.waits.clear()
    pinned = torch.ones(4).pin_memory()
    assert pinned.is_pinned() and pinned.to("cuda", non_blocking=True).is_cuda
    torch.empty(4, device="cuda").copy_(pinned, non_blocking=True)
    assert not pretended.waits


def test_grouped_attention_in_float32_is_refused(pretended: Gpu):
    query, key = torch.ones(1, 4, 8, 4, device="cuda"), torch.ones(1, 2, 8, 4, device="cuda")
    with pytest.raises(AssertionError, match="math kernel"):
        F.scaled_dot_product_attention(query, key, key, is_causal=True, enable_gqa=True)
    F.scaled_dot_product_attention(query, query, query, is_causal=True)
    half = query.bfloat16(), key.bfloat16(), key.bfloat16()
    F.scaled_dot_product_attention(*half, is_causal=True, enable_gqa=True)
    with torch.autocast("cuda", torch.bfloat16):
        assert torch.is_autocast_enabled("cuda")
        F.scaled_dot_product_attention(query, key, key, enable_gqa=True)
    assert (torch.bfloat16, True, False) in pretended.attention


def test_sums_in_any_order_are_noted(pretended: Gpu):
    sums, places = torch.zeros(2, device="cuda"), torch.tensor([0, 0, 1]).to("cuda")
    sums.index_add_(0, places, torch.ones(3, device="cuda"))
    assert pretended.any_order.total() == 1
    with torch.device("cuda"):
        x = torch.ones(1, 1, 70, 8, requires_grad=True)
    torch.set_deterministic_debug_mode("warn")
    try:
        sums.index_add_(0, places, torch.ones(3, device="cuda"))
        F.scaled_dot_product_attention(x, x, x).sum().backward()
    finally:
        torch.set_deterministic_debug_mode("default")
    assert pretended.any_order.total() == 1
    F.scaled_dot_product_attention(x, x, x).sum().backward()
    assert pretended.any_order.total() == 2
