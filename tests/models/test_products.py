"""Fast products are `F.linear`'s, forward and backward; small, other and unsupported ones are PyTorch's own.

Causal attention in blocks is PyTorch's, and a fused FFN is the FFN, and is fused only for a while.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from puzzledsl.models.families.access import shape_of
from puzzledsl.models.kernels import products
from puzzledsl.models.kernels.products import (
    NOT_PACKED,
    SMALLEST_BLOCK,
    PackedWeights,
    causal_attention,
    fast_products,
    fused_ffns,
    has_fast_products,
    has_fused_products,
    is_causal_alone,
    linear,
)
from puzzledsl.models.layerwise import LayerRunner
from tests.tiny import FAMILIES, tiny_model, tiny_tokens

needs_fast_products = pytest.mark.skipif(not has_fast_products(), reason="this CPU or PyTorch has none")
needs_fused_products = pytest.mark.skipif(not has_fused_products(), reason="this CPU or PyTorch has none")
CPU = torch.device("cpu")


def missing(*_: Any) -> Tensor:
    """An operator that PyTorch lacks."""
    raise AttributeError("'_OpNamespace' 'mkldnn' object has no attribute '_linear_pointwise'")


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The shapes of what is multiplied by oneDNN."""
    seen: list[tuple[int, ...]] = []
    real = products._product

    def product(x: Tensor, weight_NK: Tensor, bias_N: Tensor | None = None) -> Tensor:
        seen.append((*x.shape, len(weight_NK)))
        return real(x, weight_NK, bias_N)

    monkeypatch.setattr(products, "_product", product)
    return seen


def _case(bias: bool, shape: tuple[int, ...] = (3, 70, 256), outputs: int = 192) -> tuple[nn.Linear, Tensor]:
    torch.manual_seed(0)
    return nn.Linear(shape[-1], outputs, bias=bias), torch.randn(shape, requires_grad=True)


def _everything(module: nn.Linear, x: Tensor) -> list[Tensor]:
    """Outputs and all gradients, of a loss that is not the same in all places."""
    module.zero_grad()
    x.grad = None
    y = module(x)
    torch.autograd.backward(y, torch.arange(y.numel()).view(y.shape).cos())
    assert x.grad is not None
    return [y.detach(), x.grad, *(p.grad for p in module.parameters() if p.grad is not None)]


@needs_fast_products
@pytest.mark.parametrize("bias", [False, True])
def test_forward_and_backward_are_those_of_linear(bias: bool, fast: list[tuple[int, ...]]) -> None:
    module, x = _case(bias)
    expected = _everything(module, x)
    assert not fast
    with fast_products(CPU):
        found = _everything(module, x)
    assert fast == [(3, 70, 256, 192), (3, 70, 192, 256)]  # there, and back to the input
    assert len(found) == len(expected) == (4 if bias else 3)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-4)
        assert ours.stride() == theirs.stride()


@needs_fast_products
def test_what_is_small_or_of_another_kind_is_pytorchs(fast: list[tuple[int, ...]]) -> None:
    module, x = _case(bias=True, shape=(4, 64), outputs=32)
    large, y = _case(bias=True)
    with fast_products(CPU), torch.no_grad():
        assert torch.equal(module(x), F.linear(x, weight=module.weight, bias=module.bias))
        large.double()(y.double())
        large.bfloat16()(y.bfloat16())
        with torch.autocast("cpu", torch.bfloat16):
            large.float()(y)
    assert not fast


LAYOUTS: dict[str, Callable[[], Tensor]] = {
    "zeros of one number": lambda: torch.zeros(()).expand(4, 70, 256),
    "a row again and again": lambda: torch.randn(1, 1, 256).expand(4, 70, 256),
    "transposed": lambda: torch.randn(70, 4, 256).transpose(0, 1),
    "every other": lambda: torch.randn(4, 140, 512)[:, ::2, ::2],
    "columns": lambda: torch.randn(4, 256, 70).transpose(1, 2),
    "not aligned": lambda: torch.randn(4 * 70 * 256 + 3)[3:].view(4, 70, 256),
}


@needs_fast_products
@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_layout_in_memory(layout: str, fast: list[tuple[int, ...]]) -> None:
    torch.manual_seed(0)
    x = LAYOUTS[layout]()
    for weight in (torch.randn(192, 256), torch.randn(256, 192).T, torch.randn(192, 512)[:, :256]):
        for packed in (NOT_PACKED, PackedWeights([weight])):
            torch.testing.assert_close(
                linear(x, weight, None, packed), F.linear(x, weight), rtol=1e-5, atol=1e-4
            )
    assert len(fast) == 6


@needs_fast_products
def test_the_same_bits_in_several_threads_at_once() -> None:
    module, x = _case(bias=False, shape=(300, 576), outputs=768)
    with torch.no_grad(), ThreadPoolExecutor(2) as pool:
        expected = linear(x, module.weight)
        found = list(pool.map(lambda _: linear(x, module.weight), range(8)))
    assert all(torch.equal(f, expected) for f in found)


def test_where_pytorch_has_no_such_operator_products_are_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "_product", missing)
    monkeypatch.setattr(products, "has_fast_products", has_fast_products.__wrapped__)
    assert not products.has_fast_products()
    module, x = _case(bias=True)
    expected = _everything(module, x)
    with fast_products(CPU):
        found = _everything(module, x)
    assert all(torch.equal(f, e) for f, e in zip(found, expected, strict=True))
    assert torch.equal(linear(x, module.weight, module.bias), expected[0])


@needs_fast_products
def test_packed_weights_give_the_same_bits_and_are_found_by_the_weight(fast: list[tuple[int, ...]]) -> None:
    module, x = _case(bias=True)
    other, _ = _case(bias=True)
    module.requires_grad_(False)
    packed = PackedWeights([module.weight, other.weight, module.bias])  # neither in training nor a vector
    assert len(packed) == 1
    assert packed.of(module.weight) is not module.weight
    assert packed.of(other.weight) is other.weight
    with torch.no_grad():
        expected = linear(x, module.weight, module.bias)
        assert torch.equal(linear(x, module.weight, module.bias, packed), expected)
        with fast_products(CPU, packed):
            assert torch.equal(module(x), expected)
    assert len(fast) == 3


def test_what_does_not_fit_is_not_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    module, _ = _case(bias=False)
    module.requires_grad_(False)
    monkeypatch.setattr(products, "room_bytes", lambda: 4 * module.weight.nbytes - 1)
    assert not len(PackedWeights([module.weight]))


@needs_fast_products
def test_an_operator_that_multiplies_wrongly_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        assert has_fast_products.__wrapped__()
    monkeypatch.setattr(products, "_product", lambda x, w, b=None: F.linear(x, w.to_dense(), b) * 1.001)
    assert not has_fast_products.__wrapped__()
    for broken in (missing, lambda x, factor, weight, bias=None: x @ weight.T):
        monkeypatch.setattr(products, "_product_times", broken)
        assert not has_fused_products.__wrapped__()


def tensors(
    positions: int, kv_heads: int = 4, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(positions)
    sizes = [(2, heads, positions, 16) for heads in (4, kv_heads, kv_heads)]
    q, k, v = (torch.randn(size, generator=generator).to(dtype) for size in sizes)
    return q, k, v


@pytest.mark.parametrize("positions", [65, 128, 200, 700])
@pytest.mark.parametrize(("scale", "kv_heads"), [(None, 4), (0.3, 4), (None, 2)])
def test_blocks_are_the_whole(positions: int, scale: float | None, kv_heads: int) -> None:
    q, k, v = tensors(positions, kv_heads)
    shared = {"scale": scale, "enable_gqa": kv_heads == 2}
    whole = F.scaled_dot_product_attention(q, k, v, is_causal=True, **shared)
    torch.testing.assert_close(causal_attention(q, k, v, **shared), whole, rtol=1e-5, atol=1e-5)


def test_what_attention_is_answered_in_blocks() -> None:
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


@needs_fast_products
def test_fast_products_use_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def noted(*args: Tensor, **others: object) -> Tensor:
        seen.append(args[0].shape[-2])
        return causal_attention(*args, **others)  # type: ignore[arg-type]

    monkeypatch.setattr(products, "causal_attention", noted)
    q, k, v = tensors(130)
    with torch.no_grad(), fast_products(CPU):
        whole = F.scaled_dot_product_attention(
            q, k, v, attn_mask=None, dropout_p=0.0, scale=0.25, is_causal=True
        )
        F.scaled_dot_product_attention(q, k, v)
    assert seen == [130]
    expected = F.scaled_dot_product_attention(q, k, v, scale=0.25, is_causal=True)
    torch.testing.assert_close(whole, expected, rtol=1e-5, atol=1e-5)


@pytest.fixture
def all_are_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "SMALLEST", 0)


@needs_fused_products
@pytest.mark.usefixtures("all_are_large")
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


@pytest.mark.usefixtures("all_are_large")
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
