"""How many bytes a number takes, and which numbers of a model are stored or multiplied in which type."""

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
}
RESIDUAL_BYTES = Fraction(2)  # the residual stream stays bf16 where matrices are multiplied in fewer bits


def activation_dtype(hardware: RooflineHardware) -> str:
    """What matrices are multiplied in: the weights' type where the profile does not say otherwise."""
    return hardware.activation_dtype or hardware.dtype


def head_dtype(hardware: RooflineHardware) -> str:
    """What the head is stored and multiplied in: the embedding's type where the profile does not say otherwise."""
    return hardware.head_dtype or hardware.embedding_dtype


def residual_bytes(hardware: RooflineHardware) -> Fraction:
    """Bytes of one number of the residual stream, which is what GPUs exchange."""
    return max(RESIDUAL_BYTES, DTYPE_BYTES[activation_dtype(hardware)])


def peak_flop_per_s(hardware: RooflineHardware, dtype: str) -> Fraction:
    """Dense peak of one GPU. fp16 runs at bf16's rate where only that is known. Raises KeyError for a dtype without a peak."""
    peaks = hardware.flop_per_s
    return peaks["bf16"] if dtype == "fp16" and "fp16" not in peaks else peaks[dtype]
