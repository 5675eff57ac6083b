"""Keys and values as KV caches of several types give them back, in float64 NumPy, written from the formats."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
GROUP = 64
"""llama.cpp rotates heads of whole groups of so many channels before it rounds."""


def stored(keys: Array, values: Array, dtype: str | None) -> tuple[Array, Array]:
    """Return keys and values, [..., D], after a cache of a type."""
    channels = keys.shape[-1]
    if dtype is None:
        return keys, values
    if dtype == "fp8":
        return fp8(keys), fp8(values)
    assert dtype == "q8_0"
    if channels % GROUP:
        return q8_0(keys), q8_0(values)
    widest = max(GROUP << power for power in range(8) if channels % (GROUP << power) == 0)
    return rotated(keys, widest), rotated(values, GROUP)


def fp8(x: Array) -> Array:
    """The nearest floats of 3 bits behind the point and exponents from -6 to 8, halves to even; 448 is the largest."""
    magnitude = np.minimum(np.abs(x), 448.0)
    exponent = np.floor(np.log2(np.maximum(magnitude, 2.0**-6)))
    step = 2.0 ** (exponent - 3)
    return np.sign(x) * np.minimum(np.round(magnitude / step) * step, 448.0)


def q8_0(x: Array) -> Array:
    """The nearest of 255 multiples of a scale for 32 numbers, halves away from zero; the scale is kept in 16 bits."""
    blocks = x.reshape(*x.shape[:-1], -1, 32)
    scale = np.abs(blocks).max(-1, keepdims=True) / 127
    shares = np.divide(blocks, scale, out=np.zeros_like(blocks), where=scale > 0)
    codes = np.sign(shares) * np.floor(np.abs(shares) + 0.5)
    return (codes * scale.astype(np.float16).astype(np.float64)).reshape(x.shape)


def rotated(x: Array, size: int) -> Array:
    """`q8_0` of groups of channels that a Hadamard matrix has turned, turned back."""
    index = np.arange(size)
    ones = np.array([[(i & j).bit_count() for j in index.tolist()] for i in index.tolist()])
    matrix = np.where(ones % 2, -1.0, 1.0) / np.sqrt(size)
    groups = x.reshape(*x.shape[:-1], -1, size)
    return (q8_0(groups @ matrix) @ matrix.T).reshape(x.shape)
