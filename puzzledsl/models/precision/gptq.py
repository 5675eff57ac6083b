"""Rounding with error compensation: GPTQ (Frantar et al., arXiv 2210.17323), from a Gram matrix of the inputs.

The columns of a weight matrix are rounded one after the other. The error of each, e = (w - q) / U_cc, is spread over the columns
that are not rounded yet, w -= e U_c, where U is the upper Cholesky factor of the inverse Gram matrix.

Two orders are tried, and the one that changes the outputs less is kept. In the order of the columns, a group's scales are those
of its weights when its first column comes. By falling size of the inputs, so that large ones leave no errors for the end,
scales are those of the original weights, because a group's columns do not come together.

Shapes: R outputs, C inputs.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from puzzledsl.alternatives.precision import Precision
from puzzledsl.models.precision.grids import column_scales, exact_scales, nearest, rounded, stored_scales

DAMPING = 0.01
"""Added to the diagonal of the Gram matrix, relative to its mean, as in the paper."""
LAZY = 128
"""Columns whose errors are collected before they reach the rest of the matrix: whole groups of every storage type."""


def gptq(weight_RC: Tensor, xx_CC: Tensor, precision: Precision) -> Tensor:
    """Round a matrix to the grid so that its outputs change little on inputs with the Gram matrix `xx_CC`; float32.

    The nearest rounding is returned where it changes them least, and where there are no inputs.
    """
    weight, plain, xx = weight_RC.float(), nearest(weight_RC, precision), xx_CC.double()
    if not bool(xx.diagonal().mean() > 0):
        return plain
    tried = [plain, _in_order(weight, _inverse_factor(xx), precision), _large_first(weight, xx, precision)]
    return min(tried, key=lambda found: output_change(found, weight, xx))


def output_change(found_RC: Tensor, weight_RC: Tensor, xx_CC: Tensor) -> float:
    """Return the sum over inputs of |W x - Q x|^2 = tr((W - Q) X'X (W - Q)')."""
    error = found_RC.to(xx_CC) - weight_RC.to(xx_CC)
    return float(((error @ xx_CC) * error).sum())


def _in_order(weight_RC: Tensor, upper: Tensor, precision: Precision) -> Tensor:
    columns = weight_RC.shape[1]
    size = precision.group(columns)
    assert size is not None
    if size == columns:
        return _compensated(weight_RC, upper, precision, column_scales(weight_RC, precision))
    return _compensated(weight_RC, upper, precision, None)


def _large_first(weight_RC: Tensor, xx: Tensor, precision: Precision) -> Tensor:
    order = xx.diagonal().argsort(descending=True, stable=True)
    scales = column_scales(weight_RC, precision)[:, order]
    upper = _inverse_factor(xx[order][:, order])
    found = torch.empty_like(weight_RC)
    found[:, order] = _compensated(weight_RC[:, order], upper, precision, scales)
    return found


def _inverse_factor(xx: Tensor) -> Tensor:
    """Return the upper Cholesky factor of the inverse of the damped Gram matrix, float32."""
    damped = xx + DAMPING * xx.diagonal().mean() * torch.eye(len(xx), dtype=xx.dtype, device=xx.device)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(damped))
    return cast(Tensor, torch.linalg.cholesky(inverse, upper=True)).float()


def _compensated(weight_RC: Tensor, upper: Tensor, precision: Precision, scales_RC: Tensor | None) -> Tensor:
    """Round column by column. `scales_RC`: of each number; None: of each group, when its first column comes."""
    columns = weight_RC.shape[1]
    size = precision.group(columns)
    assert size is not None
    left, found, scales = weight_RC.clone(), torch.empty_like(weight_RC), weight_RC[:, :1]
    for first in range(0, columns, LAZY):
        end = min(first + LAZY, columns)
        errors = left.new_empty(len(left), end - first)
        for column in range(first, end):
            if scales_RC is not None:
                scales = scales_RC[:, column : column + 1]
            elif column % size == 0:
                scales = stored_scales(exact_scales(left[:, column : column + size], precision), precision)
            value = left[:, column]
            found[:, column] = (rounded(value[:, None], scales, precision) * scales)[:, 0]
            error = (value - found[:, column]) / upper[column, column]
            left[:, column:end] -= torch.outer(error, upper[column, column:end])
            errors[:, column - first] = error
        left[:, end:] -= errors @ upper[first:end, end:]
    return found
