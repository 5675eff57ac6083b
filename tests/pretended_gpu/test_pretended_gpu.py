"""The pretended GPU refuses and counts what a real one would, and leaves nothing behind."""

from __future__ import annotations

import threading
from contextlib import suppress

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.pretended_gpu import Gpu, pretended_gpu

KIB = 1024


def test_nothing_is_left_behind():
    before = torch.cuda.is_available, torch.autocast, torch.Generator, threading.Thread.run
    with suppress(ZeroDivisionError), pretended_gpu():
        assert torch.cuda.is_available() and torch.ones(1, device="cuda").is_cuda
        raise ZeroDivisionError
    assert (torch.cuda.is_available, torch.autocast, torch.Generator, threading.Thread.run) == before
    assert torch.ones(1).device.type == "cpu"


def test_tensors_know_their_device(pretended: Gpu):
    x = torch.ones(3)
    y = x.to("cuda")
    assert y.device == torch.device("cuda", 0) and (y + 1).is_cuda and y[1:].is_cuda
    assert not any(t.is_cuda for t in (x, y.cpu(), y.to(x), torch.zeros_like(y, device="cpu")))
    with torch.device("cuda"):
        assert torch.empty(2).is_cuda
    model = nn.Linear(3, 2).to("cuda")
    assert model(y).is_cuda and all(p.is_cuda for p in model.parameters())
    assert (y * torch.tensor(2.0) + 1).is_cuda, "numbers mix with any device"


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


def test_bytes_are_those_of_live_storages(pretended: Gpu):
    x = torch.empty(KIB, dtype=torch.uint8, device="cuda")
    assert pretended.held_bytes == KIB == torch.cuda.memory_allocated()
    y = torch.cat([x, x])
    view = y[:10]
    assert pretended.held_bytes == 3 * KIB
    del y
    assert pretended.held_bytes == 3 * KIB
    del view
    assert pretended.held_bytes == KIB and pretended.peak_bytes == 3 * KIB
    pretended.reset_peak()
    assert pretended.peak_bytes == KIB
    del x
    x = torch.ones(KIB, device="cuda", requires_grad=True)
    y = x.exp().exp()
    del x
    assert pretended.held_bytes == 3 * 4 * KIB
    y.sum().backward()


def test_memory_has_an_end(pretended: Gpu):
    pretended.limit_bytes = 10 * KIB
    held = torch.empty(6 * KIB, dtype=torch.uint8, device="cuda")
    with pytest.raises(torch.OutOfMemoryError):
        held + 1
    assert torch.cuda.mem_get_info() == (4 * KIB, 10 * KIB)
    del held
    torch.empty(9 * KIB, dtype=torch.uint8, device="cuda")


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


def test_a_graph_runs_again_on_the_same_memory(pretended: Gpu):
    x, graph = torch.ones(3, device="cuda"), torch.cuda.CUDAGraph()
    first, last = (torch.cuda.Event(enable_timing=True, external=True) for _ in range(2))
    with torch.cuda.graph(graph):
        first.record()
        y = (x * 2).view(-1) + 1
        last.record()
        with pytest.raises(RuntimeError, match="capturing"):
            y.sum().item()
    x.fill_(5)
    graph.replay()
    assert y.tolist() == [11.0] * 3 and first.elapsed_time(last) > 0
