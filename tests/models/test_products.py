"""Fast products are `F.linear`'s, forward and backward; small, other and unsupported ones are PyTorch's own."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from puzzledsl.models.kernels import products
from puzzledsl.models.kernels.products import (
    NOT_PACKED,
    PackedWeights,
    fast_products,
    has_fast_products,
    linear,
)

needs_fast_products = pytest.mark.skipif(not has_fast_products(), reason="this CPU or PyTorch has none")


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


@pytest.fixture
def no_fast_products(monkeypatch: pytest.MonkeyPatch) -> None:
    """A PyTorch that lacks the operator."""

    def missing(*_: Any) -> Tensor:
        raise AttributeError("'_OpNamespace' 'mkldnn' object has no attribute '_linear_pointwise'")

    monkeypatch.setattr(products, "_product", missing)
    monkeypatch.setattr(products, "has_fast_products", has_fast_products.__wrapped__)


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
    with fast_products(torch.device("cpu")):
        found = _everything(module, x)
    assert fast == [(3, 70, 256, 192), (3, 70, 192, 256)]  # there, and back to the input
    assert len(found) == len(expected) == (4 if bias else 3)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-4)
        assert ours.stride() == theirs.stride()


@needs_fast_products
def test_without_gradients_and_by_itself(fast: list[tuple[int, ...]]) -> None:
    module, x = _case(bias=True)
    with torch.inference_mode():
        torch.testing.assert_close(linear(x, module.weight, module.bias), module(x), rtol=1e-5, atol=1e-5)
    assert len(fast) == 1


@needs_fast_products
def test_what_is_small_or_of_another_kind_is_pytorchs(fast: list[tuple[int, ...]]) -> None:
    module, x = _case(bias=True, shape=(4, 64), outputs=32)
    large, y = _case(bias=True)
    with fast_products(torch.device("cpu")), torch.no_grad():
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


@pytest.mark.usefixtures("no_fast_products")
def test_where_pytorch_has_no_such_operator_products_are_its_own() -> None:
    assert not products.has_fast_products()
    module, x = _case(bias=True)
    expected = _everything(module, x)
    with fast_products(torch.device("cpu")):
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
        with fast_products(torch.device("cpu"), packed):
            assert torch.equal(module(x), expected)
    assert len(fast) == 3


def test_what_does_not_fit_is_not_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    module, _ = _case(bias=False)
    module.requires_grad_(False)
    monkeypatch.setattr(products, "room_bytes", lambda: 4 * module.weight.nbytes - 1)
    assert not len(PackedWeights([module.weight]))


def test_an_operator_that_multiplies_wrongly_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "_product", lambda x, w, b=None: F.linear(x, w.to_dense(), b) * 1.001)
    assert not has_fast_products.__wrapped__()


@needs_fast_products
def test_are_found_inside_autocast_too() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        assert has_fast_products.__wrapped__()
