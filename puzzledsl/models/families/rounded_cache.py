"""Keys and values of an attention, rounded after rotary embedding as an engine's KV cache of another type stores them.

`fp8` is e4m3 with a scale of 1 (vLLM's `--kv-cache-dtype fp8`). `q8_0` is llama.cpp's: blocks of 32 numbers of a head share a
float16 scale (ggml-quants.c: quantize_row_q8_0_ref). Where heads have whole groups of 64 channels, llama.cpp rotates these by
Hadamard matrices before it rounds (llama-kv-cache.cpp: `attn_rot_k`, `attn_rot_v`): keys in the largest groups of 64, 128, … that
divide a head, values in groups of 64. Queries and outputs are rotated likewise, so that here both are rotated back.

Shapes: B sequences, K key/value heads, S positions, D channels of a head.
"""

import inspect
from math import sqrt
from typing import Any

import torch
from torch import Tensor, nn

BLOCK, ROTATED = 32, 64
FP8_MAX = 448.0


def fp8(states: Tensor) -> Tensor:
    """Return the nearest e4m3 floats; larger numbers become the largest."""
    nearest = states.float().clamp(-FP8_MAX, FP8_MAX).to(torch.float8_e4m3fn)
    return nearest.to(states.dtype)


def q8_0(states: Tensor) -> Tensor:
    """Return the nearest multiples of each block's scale, from -127 to 127; halves are rounded away from zero."""
    blocks = states.reshape(*states.shape[:-1], -1, BLOCK)
    scales = blocks.abs().amax(-1, keepdim=True) / 127
    shares = blocks * scales.reciprocal().masked_fill(scales == 0, 0)
    codes = shares.sign() * (shares.abs() + 0.5).floor()
    return (codes * scales.half().to(states.dtype)).view(states.shape)


def rotated(states: Tensor, group: int) -> Tensor:
    """Multiply groups of channels, a power of two each, by the orthonormal Hadamard matrix, which is its own inverse."""
    rows, step = states, 1
    while step < group:
        left, right = rows.reshape(*states.shape[:-1], -1, 2, step).unbind(-2)
        rows = torch.stack([left + right, left - right], -2)
        step *= 2
    return rows.reshape(states.shape) / sqrt(group)


def rounded(dtype: str, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Return keys and values, [B, K, S, D], as a cache of a type gives them back."""
    if dtype == "fp8":
        return fp8(keys), fp8(values)
    widest = ROTATED
    while keys.shape[-1] % (2 * widest) == 0:
        widest *= 2
    found = []
    for states, group in ((keys, widest), (values, ROTATED)):
        exact = states if states.dtype == torch.float64 else states.float()
        if states.shape[-1] % ROTATED:
            found.append(q8_0(exact).to(states.dtype))
        else:
            found.append(rotated(q8_0(rotated(exact, group)), group).to(states.dtype))
    return found[0], found[1]


class Straight(torch.autograd.Function):
    """Rounding whose gradient is that of no rounding."""

    @staticmethod
    def forward(ctx: Any, dtype: str, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Round both."""
        return rounded(dtype, keys, values)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        """Pass gradients on."""
        return None, *gradients


class RoundedCache:
    """A cache whose keys and values are rounded before they are stored; without a cache, they are given back."""

    def __init__(self, cache: Any, dtype: str) -> None:
        self.cache, self.dtype = cache, dtype

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> Any:
        """Add tokens, and return the keys and values of all."""
        states: Any = Straight.apply(self.dtype, key_states, value_states)  # type: ignore[no-untyped-call]
        return states if self.cache is None else self.cache.update(*states, *args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        if name in ("cache", "dtype"):  # a copy that has no attributes yet
            raise AttributeError(name)
        return getattr(self.cache, name)


class RoundCache:
    """A forward pre-hook of an attention: the cache that it fills, or would fill, is a `RoundedCache`."""

    def __init__(self, dtype: str) -> None:
        self.dtype = dtype

    def __call__(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Any, dict[str, Any]]:
        """Replace the cache among the arguments."""
        known = inspect.signature(type(module).forward).parameters
        name = "cache" if "cache" in known else "past_key_values"  # renamed in transformers 5.2x
        return args, {**kwargs, name: RoundedCache(kwargs.get(name), self.dtype)}
