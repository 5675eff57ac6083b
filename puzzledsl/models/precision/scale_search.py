"""Search of a group's scale: the multiple of the usual one whose rounding has the least weighted squared error.

The usual scale leaves no number of a group beyond the codes. A smaller one rounds most numbers more finely and cuts a few off;
one of the other sign gives the largest number the other end of an uneven range of codes. llama.cpp's own quantisers search
likewise (`make_qx_quants` in ggml-quants.c).
"""

from __future__ import annotations

import torch
from torch import Tensor

from puzzledsl.alternatives.precision import Precision
from puzzledsl.models.precision.grids import blocks_of, exact_scales, rounded, stored_scales

FACTORS = tuple(round(0.70 + 0.03 * step, 2) for step in range(16))
"""Multiples of the usual scale that are tried: 0.70 to 1.15."""


def column_scales(weight_RC: Tensor, importance_C: Tensor, precision: Precision) -> Tensor:
    """Return the searched scale of each number of a matrix, as stored, float32 (R, C)."""
    groups = blocks_of(weight_RC.float(), precision)
    scales = searched_scales(groups, blocks_of(importance_C[None], precision), precision).expand_as(groups)
    return scales.flatten(1)[:, : weight_RC.shape[-1]]


def searched_scales(blocks: Tensor, importance: Tensor, precision: Precision) -> Tensor:
    """Return the stored scale of each group (…, P), as (…, 1), float32.

    `importance` is the weight of each number's squared error, of a shape that is broadcast. The usual scale stands where none is
    better.
    """
    usual = exact_scales(blocks, precision)
    best = stored_scales(usual, precision)
    least = _error(blocks, best, importance, precision)
    for factor in _factors(precision):
        scales = stored_scales(usual * factor, precision)
        error = _error(blocks, scales, importance, precision)
        nearer = error < least
        best, least = torch.where(nearer, scales, best), torch.where(nearer, error, least)
    return best


def _factors(precision: Precision) -> tuple[float, ...]:
    if (
        precision.high == 0
    ):  # floats: a scale that is not a power of two from another moves the steps, and no more
        return ()
    if precision.format == "compressed" or precision.low == -precision.high:
        return FACTORS
    other = precision.low / precision.high
    return (*FACTORS, *(other * factor for factor in FACTORS))


def _error(blocks: Tensor, scales: Tensor, importance: Tensor, precision: Precision) -> Tensor:
    error = rounded(blocks, scales, precision).mul_(scales).sub_(blocks)
    return error.square_().mul_(importance).sum(-1, keepdim=True)
