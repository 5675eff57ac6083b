"""Least-squares fit of a matrix's scales with its codes held, under the Gram matrix of the inputs.

A row's outputs are linear in the scales of its groups, W x ≈ Σ_g s_g Q_g x, so that the best scales solve G equations in G
unknowns, with the matrix Q_g' X'X Q_h and the right side Q_g' X'X W'.

Shapes: R outputs, C inputs in G groups of P numbers, the last filled up with zeros.
"""

from __future__ import annotations

import torch
from torch import Tensor

from puzzledsl.alternatives.precision import Precision
from puzzledsl.models.precision.grids import Codes, codes_of, stored_scales

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
