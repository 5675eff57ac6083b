"""Float32 products on a CPU by oneDNN, where it multiplies faster than what PyTorch calls by itself (MKL).

`with fast_products():` and every large `F.linear` in the block, a model's or a piece's, is oneDNN's: forward and for the gradient
of its input; the gradient of a weight stays MKL's, which is as fast. One core of a Zen 4 does 103-110 GFLOP/s so, against 85-100.
The operator is the one that `torch.compile` puts into frozen models. It has no public name, so this file alone calls it, knows
whether it is there, and compares it with `F.linear` before it is used at all.

Which of the two multiplies depends on shapes and the machine, never on time or on the number of threads. A weight that is
used again and again may be packed, put into oneDNN's own order once (5 % more); numbers are the same, to the bit.

Shapes: K inputs, N outputs; any leading dimensions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.overrides import TorchFunctionMode

from puzzledsl.modeling.causal import causal_attention, is_causal_alone
from puzzledsl.modeling.memory import room_bytes

SMALLEST = 1 << 22
"""Multiplications below which a product is PyTorch's: oneDNN is slower to begin, and takes a millisecond for a new shape."""
PACKED_SHARE = 0.25
"""Of the memory that is free, packed copies of weights may take this much."""
TYPICAL_ROWS = 512
"""That a packed weight's order is meant for; it is right for any number."""
_OPERATOR_IS_MISSING = (AttributeError, NotImplementedError, RuntimeError, TypeError)
"""What PyTorch raises where an operator is not there, or takes other arguments."""


class PackedWeights:
    """Packed copies of frozen weights, to be found by the weight itself. Without weights there are none."""

    def __init__(self, weights: Iterable[Tensor] = ()) -> None:
        """All of them, or none where there is too little memory or nothing to gain."""
        chosen = [weight for weight in weights if _may_be_packed(weight)]
        needed = sum(weight.nbytes for weight in chosen)
        if not chosen or not has_fast_products() or needed > PACKED_SHARE * room_bytes():
            chosen = []
        self._held = {id(weight): (weight, _packed(weight)) for weight in chosen}

    def __len__(self) -> int:
        return len(self._held)

    def of(self, weight_NK: Tensor) -> Tensor:
        """The weight as a product is to be given it: packed, or as it is."""
        held = self._held.get(id(weight_NK))
        return weight_NK if held is None else held[1]


NOT_PACKED = PackedWeights()


@contextmanager
def fast_products(packed: PackedWeights = NOT_PACKED) -> Iterator[None]:
    """While this lasts, `F.linear` is `linear` in this thread, and causal attention is in blocks (`modeling.causal`)."""
    if not has_fast_products():
        yield
        return
    with _FastProducts(packed):
        yield


def linear(
    x: Tensor, weight_NK: Tensor, bias_N: Tensor | None = None, packed: PackedWeights = NOT_PACKED
) -> Tensor:
    """`F.linear`, [..., K] -> [..., N], by oneDNN where that is faster. Differentiable (once)."""
    if not _is_faster(x, weight_NK, bias_N):
        return F.linear(x, weight_NK, bias_N)
    if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in (x, weight_NK, bias_N)):
        return cast(Tensor, cast(Any, _Linear).apply(x, weight_NK, bias_N))  # torch has no types for it
    return _product(x, packed.of(weight_NK), bias_N)


@cache
def has_fast_products() -> bool:
    """True where the CPU is of the kind that oneDNN was found faster on (AVX-512), this PyTorch has the operator, and it
    agrees with `F.linear`."""
    backends: Any = torch.backends  # not typed
    if not backends.mkldnn.is_available() or backends.cpu.get_cpu_capability() != "AVX512":
        return False
    x, weight_NK = (torch.arange(rows * 96.0).view(rows, 96).sin() for rows in (64, 80))
    bias_N, back = weight_NK[:, 0].contiguous(), torch.arange(64 * 80.0).view(64, 80).cos()
    try:
        found = (
            _product(x, _packed(weight_NK), bias_N),
            _product(x, weight_NK),
            _product(back, weight_NK.T),
        )
    except _OPERATOR_IS_MISSING:
        return False
    expected = F.linear(x, weight_NK, bias_N), F.linear(x, weight_NK), back @ weight_NK
    return all(torch.allclose(f, e, rtol=1e-4, atol=1e-4) for f, e in zip(found, expected, strict=True))


def gated(x: Tensor, gate: nn.Linear, up: nn.Linear, packed: PackedWeights = NOT_PACKED) -> Tensor:
    """silu(gate(x)) * up(x), without gradients: where that is faster, in the two products themselves, so that what they make
    is not read and written twice more."""
    fused = has_fused_products() and not torch.is_grad_enabled()
    if not fused or not all(_is_faster(x, m.weight, m.bias) for m in (gate, up)):
        return F.silu(linear(x, gate.weight, gate.bias, packed)) * linear(x, up.weight, up.bias, packed)
    gate_F = _silu_of_product(x, packed.of(gate.weight), gate.bias)
    return _product_times(x, gate_F, packed.of(up.weight), up.bias)


@cache
def has_fused_products() -> bool:
    """True where there are fast products, and those with something done to them on the way agree with PyTorch's own."""
    if not has_fast_products():
        return False
    x, weight_NK = (torch.arange(rows * 96.0).view(rows, 96).sin() for rows in (64, 80))
    bias_N = weight_NK[:, 0].contiguous()
    plain = F.linear(x, weight_NK, bias_N)
    try:
        activated = _silu_of_product(x, _packed(weight_NK), bias_N)
        multiplied = _product_times(x, activated, weight_NK, bias_N)
    except _OPERATOR_IS_MISSING:
        return False
    expected = F.silu(plain), F.silu(plain) * plain
    return all(
        torch.allclose(f, e, rtol=1e-4, atol=1e-4)
        for f, e in zip((activated, multiplied), expected, strict=True)
    )


def _is_faster(x: Tensor, weight_NK: Tensor, bias_N: Tensor | None) -> bool:
    tensors = (x, weight_NK) if bias_N is None else (x, weight_NK, bias_N)
    return (
        all(t.dtype == torch.float32 and t.device.type == "cpu" for t in tensors)
        and weight_NK.ndim == 2
        and math.prod(x.shape) * weight_NK.shape[0] >= SMALLEST
        and not torch.is_autocast_enabled("cpu")
        and has_fast_products()
    )


def _product(x: Tensor, weight_NK: Tensor, bias_N: Tensor | None = None) -> Tensor:
    operator: Callable[..., Tensor] = torch.ops.mkldnn._linear_pointwise
    return operator(x, weight_NK, bias_N, "none", [], "")


def _silu_of_product(x: Tensor, weight_NK: Tensor, bias_N: Tensor | None = None) -> Tensor:
    operator: Callable[..., Tensor] = torch.ops.mkldnn._linear_pointwise
    return operator(x, weight_NK, bias_N, "swish", [], "")


def _product_times(x: Tensor, factor: Tensor, weight_NK: Tensor, bias_N: Tensor | None = None) -> Tensor:
    operator: Callable[..., Tensor] = torch.ops.mkldnn._linear_pointwise.binary
    return operator(x, factor, weight_NK, bias_N, "mul")


def _packed(weight_NK: Tensor) -> Tensor:
    operator: Callable[..., Tensor] = torch.ops.mkldnn._reorder_linear_weight
    return operator(weight_NK.detach(), TYPICAL_ROWS)


def _may_be_packed(weight: Tensor) -> bool:
    large = weight.ndim == 2 and weight.numel() * TYPICAL_ROWS >= SMALLEST
    return (
        large and weight.dtype == torch.float32 and weight.device.type == "cpu" and not weight.requires_grad
    )


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight_NK: Tensor, bias_N: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight_NK)
        return _product(x, weight_NK, bias_N)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight_NK = ctx.saved_tensors
        to_x, to_weight, to_bias = ctx.needs_input_grad
        flat = gradient.flatten(0, -2)
        return (
            _product(gradient, weight_NK.T) if to_x else None,
            flat.T @ x.flatten(0, -2) if to_weight else None,
            flat.sum(0) if to_bias else None,
        )


class _FastProducts(TorchFunctionMode):
    def __init__(self, packed: PackedWeights) -> None:
        super().__init__()
        self._packed = packed

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func is F.linear and not kwargs:
            x, weight_NK, bias_N = (*args, None)[:3]
            return linear(x, weight_NK, bias_N, self._packed)
        if func is F.scaled_dot_product_attention and len(args) == 3 and is_causal_alone(*args, **kwargs):
            known = {name: kwargs[name] for name in ("scale", "enable_gqa") if name in kwargs}
            return causal_attention(*args, **known)
        return func(*args, **kwargs)
