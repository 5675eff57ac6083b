"""Storage and arithmetic types: bytes per number, the type of each part of a model, and the share of experts that is read.

A token chooses k of E experts, and tokens are taken to choose independently and evenly, as routers are trained to. n
tokens leave an expert out with probability (1 - k / E)^n, so that E (1 - (1 - k / E)^n) are expected to be read.
"""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache
from math import gcd

from puzzledsl.alternatives.precision import CACHES
from puzzledsl.ir.nodes import RooflineHardware

CERTAIN = 24
"""From n = CERTAIN * E / k tokens on, all experts count: e^-24 of them, less than 1e-10, would be left out."""
MANY = 128
"""Beyond MANY * k experts, (1 - k / E)^n has too many digits: see `_interpolated`."""
BITS = 24
"""Precision of what is interpolated."""


@lru_cache(maxsize=1 << 14)
def share_read(experts: int, top_k: int, tokens: int) -> tuple[int, int]:
    """Return the expected share of experts that `tokens` tokens read, exactly, as numerator and denominator.

    It does not decrease with the tokens, and divided by them it does not increase. Both hold for 1 - q^n (q = 1 - k / E).
    They hold at the step to 1, too: there 1 / (n + 1) <= (1 - q^n) / n if (n + 1) q^n <= 1, and q^n < e^-24 while n is below
    2^31.
    """
    if tokens * top_k >= CERTAIN * experts or top_k >= experts:
        return 1, 1
    common = gcd(experts, top_k)
    whole, left = experts // common, (experts - top_k) // common
    if experts > MANY * top_k:
        return _interpolated(whole, left, tokens, -(-experts // (MANY * top_k)))
    denominator = whole**tokens
    return denominator - left**tokens, denominator


def _interpolated(whole: int, left: int, tokens: int, step: int) -> tuple[int, int]:
    """Return 1 - r^(n / step) at multiples of `step`, and a line between. r is (left / whole)^step, rounded to BITS.

    r^m is convex in m for every r below 1, and so are the lines between: both properties of `share_read` hold. Rounding
    changes r^m by less than a thousandth up to the step to 1.
    """
    kept = round(Fraction(left, whole) ** step * 2**BITS)
    steps, rest = divmod(tokens, step)
    between = ((step - rest) << BITS) + kept * rest
    denominator = step << BITS * (steps + 1)
    return denominator - kept**steps * between, denominator


DTYPE_BYTES: dict[str, Fraction] = {
    "fp64": Fraction(8),
    "fp32": Fraction(4),
    "tf32": Fraction(4),
    "bf16": Fraction(2),
    "fp16": Fraction(2),
    "fp8": Fraction(1),
    "int8": Fraction(1),
    "fp4": Fraction(1, 2),
    "int4": Fraction(1, 2),
    "mxfp4": Fraction(17, 32),  # 4 bits, and 8 bits of scale for 32 numbers
}
CACHE_BYTES = DTYPE_BYTES | {cache.name: cache.bytes for cache in CACHES.values()}
"""Bytes of a cached number by its type, scales included."""
STATE_BYTES = Fraction(4)  # recurrent states are sums over the whole past, and stay fp32
RESIDUAL_BYTES = Fraction(2)  # the residual stream stays bf16 where matrices are multiplied in fewer bits


def activation_dtype(hardware: RooflineHardware) -> str:
    """Return the type of matrix products: the profile's `activation_dtype`, else the weights' type."""
    return hardware.activation_dtype or hardware.dtype


def expert_dtype(hardware: RooflineHardware) -> str:
    """Return the type that experts are stored in: the profile's `expert_dtype`, else the weights' type."""
    return hardware.expert_dtype or hardware.dtype


def head_dtype(hardware: RooflineHardware) -> str:
    """Return the type of the head's storage and products: the profile's `head_dtype`, else the embedding's type."""
    return hardware.head_dtype or hardware.embedding_dtype


def residual_bytes(hardware: RooflineHardware) -> Fraction:
    """Return the bytes of one number of the residual stream, which the GPUs exchange."""
    return max(RESIDUAL_BYTES, DTYPE_BYTES[activation_dtype(hardware)])


def peak_flop_per_s(hardware: RooflineHardware, dtype: str) -> Fraction:
    """Return the dense peak of one GPU in FLOP/s. fp16 uses bf16's peak if it has none. Raises KeyError without a peak."""
    peaks = hardware.flop_per_s
    return peaks["bf16"] if dtype == "fp16" and "fp16" not in peaks else peaks[dtype]
