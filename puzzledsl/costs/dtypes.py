"""Storage and arithmetic types: bytes per number, and the type of each part of a model."""

from __future__ import annotations

from fractions import Fraction

from puzzledsl.ir.nodes import RooflineHardware

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
