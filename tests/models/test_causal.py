"""Causal attention in blocks is PyTorch's; what is not causal alone stays PyTorch's own."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from puzzledsl.models.kernels import products
from puzzledsl.models.kernels.products import (
    SMALLEST_BLOCK,
    causal_attention,
    fast_products,
    has_fast_products,
    is_causal_alone,
)


def tensors(
    positions: int, kv_heads: int = 4, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(positions)
    sizes = [(2, heads, positions, 16) for heads in (4, kv_heads, kv_heads)]
    q, k, v = (torch.randn(size, generator=generator).to(dtype) for size in sizes)
    return q, k, v


@pytest.mark.parametrize("positions", [65, 128, 200, 700])
@pytest.mark.parametrize("scale", [None, 0.3])
def test_blocks_are_the_whole(positions: int, scale: float | None) -> None:
    q, k, v = tensors(positions)
    whole = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale)
    torch.testing.assert_close(causal_attention(q, k, v, scale), whole, rtol=1e-5, atol=1e-5)


def test_shared_heads() -> None:
    q, k, v = tensors(130, kv_heads=2)
    whole = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
    torch.testing.assert_close(causal_attention(q, k, v, enable_gqa=True), whole, rtol=1e-5, atol=1e-5)


def test_what_is_answered_in_blocks() -> None:
    q, k, v = tensors(130)
    with torch.no_grad():
        assert is_causal_alone(q, k, v, is_causal=True, attn_mask=None, dropout_p=0.0)
        assert not is_causal_alone(q, k, v, is_causal=False)
        assert not is_causal_alone(q, k, v, is_causal=True, dropout_p=0.1)
        assert not is_causal_alone(q, k, v, is_causal=True, attn_mask=torch.zeros(130, 130))
        assert not is_causal_alone(q[:, :, -1:], k, v, is_causal=True)
        assert not is_causal_alone(*tensors(SMALLEST_BLOCK), is_causal=True)
        assert not is_causal_alone(*tensors(130, dtype=torch.bfloat16), is_causal=True)
    with torch.enable_grad():
        assert not is_causal_alone(q, k, v, is_causal=True)


@pytest.mark.skipif(not has_fast_products(), reason="this CPU or PyTorch has none")
def test_fast_products_use_them(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def noted(*args: Tensor, **others: object) -> Tensor:
        seen.append(args[0].shape[-2])
        return causal_attention(*args, **others)  # type: ignore[arg-type]

    monkeypatch.setattr(products, "causal_attention", noted)
    q, k, v = tensors(130)
    with torch.no_grad(), fast_products(torch.device("cpu")):
        whole = F.scaled_dot_product_attention(
            q, k, v, attn_mask=None, dropout_p=0.0, scale=0.25, is_causal=True
        )
        F.scaled_dot_product_attention(q, k, v)
    assert seen == [130]
    expected = F.scaled_dot_product_attention(q, k, v, scale=0.25, is_causal=True)
    torch.testing.assert_close(whole, expected, rtol=1e-5, atol=1e-5)
