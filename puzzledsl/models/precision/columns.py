"""Rounding of a matrix column by column, each corrected for the errors of those before it: the inner loop of GPTQ.

A step is a dozen operations on one column. Each costs NumPy less overhead than PyTorch: on a CPU, two matrices rounded side by
side take half the time (576 to 3,072 rows, iq4_nl).

Shapes: R rows, C columns, E columns at a time. Matrices are transposed, [C, R], so that a step reads memory in order.
"""

from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from puzzledsl.alternatives.precision import Precision
from puzzledsl.plan.flop import LAZY

LARGEST_FP8 = 448.0
Floats = NDArray[np.float32]


def shares_of(scales: Tensor) -> Tensor:
    """Return 1 / scale, 0 for a scale of 0: a factor that replaces division by the scale, up to a rounding error."""
    return torch.where(scales == 0, 0.0, 1 / scales)


def coded(shares: Tensor, precision: Precision) -> Tensor:
    """Return the codes nearest to `shares` (numbers divided by their scales), float32. `shares` may be overwritten."""
    if precision.high == 0:
        return shares.clamp_(-LARGEST_FP8, LARGEST_FP8).to(torch.float8_e4m3fn).float()
    if precision.levels:
        low, high = 2 * precision.levels[0], 2 * precision.levels[-1]
        places = shares.mul_(2).ceil_().clamp_(low, high).sub_(low).nan_to_num_(0.0).to(torch.int32)
        found = nearest_levels(precision.levels, shares.device).index_select(0, places.flatten())
        return found.view(shares.shape)
    return shares.round_().clamp_(precision.low, precision.high)


@cache
def nearest_levels(levels: tuple[int, ...], device: torch.device) -> Tensor:
    """Return the nearest level to each multiple of 1/2 from the lowest level to the highest; of two as near, the lower."""
    values = torch.tensor(levels, dtype=torch.float32, device=device)
    halves = torch.arange(2 * levels[0], 2 * levels[-1] + 1, device=device) / 2
    return values[torch.bucketize(halves, (values[1:] + values[:-1]) / 2)]


def compensated(left_CR: Tensor, upper: Tensor, precision: Precision, scales_CR: Tensor) -> Tensor:
    """Return a transposed matrix rounded with error compensation, float32 [C, R]; `left_CR` itself is overwritten.

    `scales_CR`: each number's scale. `upper`: upper Cholesky factor of the inverse Gram matrix of the inputs, [C, C].
    """
    columns, found_CR, shares_CR = len(left_CR), torch.empty_like(left_CR), shares_of(scales_CR)
    on_cpu = left_CR.device.type == "cpu" and precision.high != 0  # NumPy has no fp8
    round_lazy = _in_numpy if on_cpu else _in_torch
    for first in range(0, columns, LAZY):
        rows = slice(first, min(first + LAZY, columns))
        lazy = (*(each[rows] for each in (left_CR, found_CR, scales_CR, shares_CR)), upper[rows, rows])
        round_lazy(lazy, precision)
        left_CR[rows.stop :].addmm_(upper[rows, rows.stop :].T, left_CR[rows], alpha=-1)
    return found_CR


def _in_torch(lazy: tuple[Tensor, ...], precision: Precision) -> None:
    """Round the E columns of `lazy` (left, found, scales, 1 / scales, upper) into `found_ER`; `left_ER` becomes their errors."""
    left_ER, found_ER, scales_ER, shares_ER, upper = lazy
    steps = upper.diagonal().tolist()
    for column, error in enumerate(left_ER):
        torch.mul(coded(error * shares_ER[column], precision), scales_ER[column], out=found_ER[column])
        error.sub_(found_ER[column]).div_(steps[column])
        left_ER[column + 1 :].addr_(upper[column, column + 1 :], error, alpha=-1)


def _in_numpy(lazy: tuple[Tensor, ...], precision: Precision) -> None:
    """Do what `_in_torch` does with NumPy, in the tensors' memory."""
    left, found, scales, shares, factor = (each.numpy() for each in lazy)
    levels = nearest_levels(precision.levels, lazy[0].device).numpy() if precision.levels else None
    for column, error in enumerate(left):
        codes: Any = error * shares[column]
        _code(codes, precision, levels)
        np.multiply(codes, scales[column], out=found[column])
        error -= found[column]
        error /= factor[column, column]
        left[column + 1 :] -= factor[column, column + 1 :, None] * error


def _code(shares: Floats, precision: Precision, levels: Floats | None) -> None:
    """Overwrite `shares` with the nearest codes: `coded` in NumPy. `levels`: from `nearest_levels`; None for even steps."""
    low, high = precision.low, precision.high
    if levels is not None:
        low, high = 2 * precision.levels[0], 2 * precision.levels[-1]
        shares *= 2
        np.ceil(shares, out=shares)
    else:
        np.rint(shares, out=shares)
    np.maximum(shares, np.float32(low), out=shares)
    np.minimum(shares, np.float32(high), out=shares)
    if levels is not None:
        shares -= np.float32(low)
        levels.take(np.nan_to_num(shares, copy=False).astype(np.int32), out=shares, mode="clip")
