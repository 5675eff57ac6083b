"""Rounding with error compensation: GPTQ (Frantar et al., arXiv 2210.17323), from a Gram matrix of the inputs.

The columns of a weight matrix are rounded one after the other. The error of each, e = (w - q) / U_cc, is spread over the columns
that are not rounded yet, w -= e U_c, where U is the upper Cholesky factor of the inverse Gram matrix. A group's scales are
those of its weights when its first column comes.

Shapes: R outputs, C inputs.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from puzzledsl.alternatives.precision import Precision
from puzzledsl.models.precision.grids import exact_scales, nearest, rounded, stored_scales

DAMPING = 0.01
"""Added to the diagonal of the Gram matrix, relative to its mean, as in the paper."""
LAZY = 128
"""Columns whose errors are collected before they reach the rest of the matrix: whole groups of every storage type."""


def gptq(weight_RC: Tensor, xx_CC: Tensor, precision: Precision) -> Tensor:
    """Round a matrix to the grid so that its outputs change least on inputs with the Gram matrix `xx_CC`; float32.

    The nearest rounding is returned where it changes them less, and where there are no inputs.
    """
    plain = nearest(weight_RC, precision)
    upper = _inverse_factor(xx_CC)
    if upper is None:
        return plain
    found = _rounded_in_order(weight_RC.float(), upper, precision)
    return found if _change(found, weight_RC, xx_CC) <= _change(plain, weight_RC, xx_CC) else plain


def output_change(found_RC: Tensor, weight_RC: Tensor, xx_CC: Tensor) -> float:
    """Return the sum over inputs of |W x - Q x|^2 = tr((W - Q) X'X (W - Q)')."""
    return _change(found_RC, weight_RC, xx_CC)


def _change(found_RC: Tensor, weight_RC: Tensor, xx_CC: Tensor) -> float:
    error = found_RC.to(xx_CC) - weight_RC.to(xx_CC)
    return float(((error @ xx_CC) * error).sum())


def _inverse_factor(xx_CC: Tensor) -> Tensor | None:
    """Return the upper Cholesky factor of the inverse of the damped Gram matrix, float32; None without inputs."""
    xx = xx_CC.double()
    mean = xx.diagonal().mean()
    if not bool(mean > 0):
        return None
    damped = xx + DAMPING * mean * torch.eye(len(xx), dtype=xx.dtype, device=xx.device)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(damped))
    return cast(Tensor, torch.linalg.cholesky(inverse, upper=True)).float()


def _rounded_in_order(weight_RC: Tensor, upper: Tensor, precision: Precision) -> Tensor:
    columns = weight_RC.shape[1]
    size = precision.group(columns)
    assert size is not None
    left, found = weight_RC.clone(), torch.empty_like(weight_RC)
    scales = stored_scales(exact_scales(left, precision), precision)
    for first in range(0, columns, LAZY):
        end = min(first + LAZY, columns)
        errors = left.new_empty(len(left), end - first)
        for column in range(first, end):
            if size < columns and column % size == 0:
                group = left[:, column : column + size]
                scales = stored_scales(exact_scales(group, precision), precision)
            value = left[:, column]
            found[:, column] = (rounded(value[:, None], scales, precision) * scales)[:, 0]
            error = (value - found[:, column]) / upper[column, column]
            left[:, column:end] -= torch.outer(error, upper[column, column:end])
            errors[:, column - first] = error
        left[:, end:] -= errors @ upper[first:end, end:]
    return found
