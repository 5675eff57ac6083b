"""A fused FFN is the FFN, and is fused only for a while."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from puzzledsl.models.families.access import shape_of
from puzzledsl.models.kernels import products
from puzzledsl.models.kernels.attention import fused_ffns
from puzzledsl.models.kernels.products import NOT_PACKED, PackedWeights, gated, has_fused_products
from puzzledsl.models.layerwise import LayerRunner
from tests.tiny import FAMILIES, tiny_model, tiny_tokens

needs_fused_products = pytest.mark.skipif(not has_fused_products(), reason="this CPU or PyTorch has none")


@pytest.fixture(autouse=True)
def all_are_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "SMALLEST", 0)


@needs_fused_products
@pytest.mark.parametrize("packs", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_gated_products_are_those_of_pytorch(packs: bool, bias: bool) -> None:
    torch.manual_seed(0)
    gate, up = (nn.Linear(48, 112, bias=bias).requires_grad_(False) for _ in range(2))
    x = 3 * torch.randn(2, 7, 48)
    packed = PackedWeights([gate.weight, up.weight]) if packs else NOT_PACKED
    assert len(packed) == 2 * packs
    with torch.no_grad():
        torch.testing.assert_close(gated(x, gate, up, packed), F.silu(gate(x)) * up(x), rtol=1e-5, atol=1e-5)


@needs_fused_products
@pytest.mark.parametrize("family", FAMILIES)
def test_a_packed_model_is_the_model(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model(family)
    runner, tokens, fused = LayerRunner(model), tiny_tokens(2, 13), []
    real = products._product_times

    def count(*arguments: Any) -> torch.Tensor:
        fused.append(arguments[0].shape)
        return real(*arguments)

    monkeypatch.setattr(products, "_product_times", count)
    with torch.no_grad():
        entering = runner.embed(tokens)
        expected = runner.passed([entering])[0]
        assert not fused
        with runner.packed():
            torch.testing.assert_close(runner.passed([entering])[0], expected, rtol=1e-5, atol=1e-5)
        silu = family not in ("gemma3_text", "phi3")
        dense = sum(own.ffn == "dense" and silu for own in shape_of(model.config).each)
        assert len(fused) == dense
        assert torch.equal(runner.passed([entering])[0], expected)
        assert len(fused) == dense


def test_what_is_not_gated_by_silu_or_wants_gradients_is_run_as_it_is() -> None:
    class Other(nn.Module):
        def __init__(self, activation: nn.Module) -> None:
            super().__init__()
            self.gate_proj, self.up_proj, self.down_proj = (nn.Linear(8, 8) for _ in range(3))
            self.act_fn = activation

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.as_tensor(self.down_proj(self.act_fn(self.gate_proj(x)) * self.up_proj(x)))

    other, silu, x = Other(nn.GELU()), Other(nn.SiLU()), torch.randn(3, 8)
    expected = silu(x)
    with fused_ffns([other, silu, nn.Identity()], NOT_PACKED):
        assert "forward" not in other.__dict__
        torch.testing.assert_close(silu(x), expected)
        assert silu(x).requires_grad
        silu(x).sum().backward()
        assert silu.gate_proj.weight.grad is not None


def test_an_operator_that_is_missing_or_wrong_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: Any) -> torch.Tensor:
        raise AttributeError("no attribute 'binary'")

    for broken in (missing, lambda x, factor, weight, bias=None: x @ weight.T):
        monkeypatch.setattr(products, "_product_times", broken)
        assert not has_fused_products.__wrapped__()
