"""Rounding with error compensation: GPTQ (Frantar et al., arXiv 2210.17323), from a Gram matrix of the inputs.

The columns of a weight matrix are rounded one after the other, by falling size of the inputs, so that large ones leave no errors
for the end. The error of each, e = (w - q) / U_cc, is spread over the columns that are not rounded yet, w -= e U_c; U is the
upper Cholesky factor of the inverse Gram matrix. Each group's scale is searched before, with errors weighted by 1 / U_cc².

Afterwards the scales are fitted by least squares to the codes found. Each row takes the rounding that changes its outputs least.
Few tokens say little of other text: the fewer there are beside the inputs, the more their Gram matrix is damped.

Shapes: R outputs, C inputs, E columns at a time.

Least-squares fit of a matrix's scales with its codes held, under the Gram matrix of the inputs.

A row's outputs are linear in the scales of its groups, W x ≈ Σ_g s_g Q_g x, so that the best scales solve G equations in G
unknowns, with the matrix Q_g' X'X Q_h and the right side Q_g' X'X W'.

Shapes: R outputs, C inputs in G groups of P numbers, the last filled up with zeros.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor

from puzzledsl.alternatives.precision import Precision
from puzzledsl.models.precision.grids import Codes, codes_of, column_scales, nearest, rounded, stored_scales

ROOM = 1 << 23
"""Numbers of all rows' equations that are solved at once."""
RIDGE = 1e-6
"""Added to the diagonal of a row's equations, relative to its mean: a group of zeros has any scale."""


def with_fitted_scales(found_RC: Tensor, weight_RC: Tensor, xx_CC: Tensor, precision: Precision) -> Tensor:
    """Return a rounded matrix with the same codes, and the stored scales that bring its outputs nearest to the weight's."""
    held = codes_of(found_RC, precision)
    assert held is not None, "the matrix is on the grid"
    columns, groups = found_RC.shape[1], held.scales.shape[1]
    missing = held.codes.shape[1] - columns
    xx = torch.nn.functional.pad(xx_CC.float(), (0, missing, 0, missing))
    wanted = torch.nn.functional.pad(weight_RC.float(), (0, missing)) @ xx
    rows = max(1, ROOM // groups**2)
    chunks = zip(*(torch.split(each, rows) for each in (held.codes, wanted, held.scales)), strict=True)
    scales = torch.cat([_fitted(codes, wants, xx, usual) for codes, wants, usual in chunks])
    return Codes(held.codes, stored_scales(scales, precision)).values(columns)


def _fitted(codes: Tensor, wanted: Tensor, xx: Tensor, usual: Tensor) -> Tensor:
    """Return the scales (R, G) of some rows; where one would change its sign, those of the row stay as they are."""
    rows, groups = usual.shape
    blocks = codes.view(rows, groups, -1)
    size = blocks.shape[-1]
    right = (wanted.view(rows, groups, size) * blocks).sum(-1)
    left = torch.empty(rows, groups, groups, device=codes.device)
    for group in range(groups):
        product = blocks[:, group] @ xx[group * size : (group + 1) * size]
        left[:, group] = (product.view(rows, groups, size) * blocks).sum(-1)
    ridge = RIDGE * left.diagonal(dim1=1, dim2=2).mean(1).clamp_min(torch.finfo(torch.float32).tiny)
    left += ridge[:, None, None] * torch.eye(groups, device=left.device)
    found = torch.linalg.solve(left.double(), right.double()).float()
    alike = ((found * usual > 0) | (right == 0)).all(1, keepdim=True)
    return torch.where(alike, found, usual)


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
