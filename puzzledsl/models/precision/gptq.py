"""Rounding with error compensation: GPTQ (Frantar et al., arXiv 2210.17323), from a Gram matrix of the inputs.

The columns of a weight matrix are rounded one after the other, by falling size of the inputs, so that large ones leave no errors
for the end. The error of each, e = (w - q) / U_cc, is spread over the columns that are not rounded yet, w -= e U_c; U is the
upper Cholesky factor of the inverse Gram matrix. Each group's scale is searched before, with errors weighted by 1 / U_cc².

Afterwards the scales are fitted by least squares to the codes found. Each row takes the rounding that changes its outputs least.
Few tokens say little of other text: the fewer there are beside the inputs, the more their Gram matrix is damped.

Shapes: R outputs, C inputs, E columns at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor

from puzzledsl.alternatives.precision import Precision
from puzzledsl.models.precision.grids import codes_of, nearest, rounded
from puzzledsl.models.precision.scale_fit import with_fitted_scales
from puzzledsl.models.precision.scale_search import column_scales

DAMPING = 0.01
"""Least number added to the diagonal of the Gram matrix, relative to its mean, as in the paper. Of fewer than a hundred tokens an
input it is inputs / tokens: near the best on other text, with 6k tokens of one kind as with 16k of two."""
LAZY = 128
"""Columns whose errors are collected before they reach the rest of the matrix."""


def gptq(weight_RC: Tensor, xx_CC: Tensor, precision: Precision, tokens: int = 0) -> Tensor:
    """Round a matrix to the grid so that its outputs change little on inputs with the Gram matrix `xx_CC`; float32.

    `tokens` is the number of inputs; 0 stands for enough. A matrix on the grid is returned as it is, and the nearest rounding
    where there are no inputs.
    """
    weight, plain, xx = weight_RC.float(), nearest(weight_RC, precision), xx_CC.double()
    if _is_on_grid(weight, precision):
        return weight
    if not bool(xx.diagonal().mean() > 0):
        return plain
    damped = _damped(xx, tokens)
    order = xx.diagonal().argsort(descending=True, stable=True)
    upper = _inverse_factor(damped[order][:, order])
    importance = torch.empty_like(upper[0])
    importance[order] = upper.diagonal().square().reciprocal()
    scales = column_scales(weight, importance, precision)
    found = torch.empty_like(weight)
    found[:, order] = _compensated(weight[:, order], upper, precision, scales[:, order])
    return best_rows([plain, found, with_fitted_scales(found, weight, damped, precision)], weight, xx)


def _is_on_grid(weight_RC: Tensor, precision: Precision) -> bool:
    """Return True for a matrix of points of the grid; the first rows tell of most others that they are none."""
    return all(codes_of(rows, precision) is not None for rows in (weight_RC[:1], weight_RC))


def best_rows(tried: Sequence[Tensor], weight_RC: Tensor, xx_CC: Tensor) -> Tensor:
    """Return for each row the rounding that changes its outputs least; the first of equals."""
    changes = torch.stack([_row_changes(found, weight_RC, xx_CC) for found in tried])
    best = changes.argmin(0)
    return torch.stack(list(tried))[best, torch.arange(len(weight_RC), device=weight_RC.device)]


def _row_changes(found_RC: Tensor, weight_RC: Tensor, xx_CC: Tensor) -> Tensor:
    error = found_RC.to(xx_CC) - weight_RC.to(xx_CC)
    return ((error @ xx_CC) * error).sum(1)


def _damped(xx: Tensor, tokens: int) -> Tensor:
    share = max(DAMPING, len(xx) / tokens) if tokens else DAMPING
    return xx + share * xx.diagonal().mean() * torch.eye(len(xx), dtype=xx.dtype, device=xx.device)


def _inverse_factor(xx: Tensor) -> Tensor:
    """Return the upper Cholesky factor of the inverse of a Gram matrix, float32."""
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(xx))
    return cast(Tensor, torch.linalg.cholesky(inverse, upper=True)).float()


def _compensated(weight_RC: Tensor, upper: Tensor, precision: Precision, scales_RC: Tensor) -> Tensor:
    """Round column by column, with the scale of each number."""
    columns = weight_RC.shape[1]
    left, found = weight_RC.clone(), torch.empty_like(weight_RC)
    for first in range(0, columns, LAZY):
        end = min(first + LAZY, columns)
        # columns as rows: a step then reads and writes memory in order
        block_ER, scales_ER = (each[:, first:end].T.contiguous() for each in (left, scales_RC))
        errors_ER, found_ER = torch.empty_like(block_ER), torch.empty_like(block_ER)
        for step, column in enumerate(range(first, end)):
            found_ER[step] = rounded(block_ER[step], scales_ER[step], precision) * scales_ER[step]
            errors_ER[step] = (block_ER[step] - found_ER[step]) / upper[column, column]
            block_ER[step:].sub_(torch.outer(upper[column, column:end], errors_ER[step]))
        found[:, first:end] = found_ER.T
        left[:, end:] -= errors_ER.T.contiguous() @ upper[first:end, end:]
    return found
