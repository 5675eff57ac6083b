"""Rounding of an embedding or a head to a storage type: the nearest codes, under searched scales.

Each number counts alike, because the rows of an embedding are outputs themselves. A head that has a piece is that
(`pieces.train.head`). A child's file, its scores and its modules
have the same numbers: they follow from the parent's matrix and the type alone.

Shapes: V tokens of the vocabulary, H hidden.
"""

from __future__ import annotations

import torch
from torch import Tensor

from puzzledsl.alternatives.precision import PRECISIONS, Precision, PrecisionName
from puzzledsl.models.precision.grids import Codes, blocks_of, rounded
from puzzledsl.models.precision.scale_search import searched_scales

ROWS = 4096
"""Rows that are rounded at a time: 1 MiB of float32 for each 64 channels."""


def rounded_end(weight_VH: Tensor, dtype: PrecisionName) -> Tensor:
    """Return a matrix on the grid of a storage type, float32 [V, H]."""
    return torch.cat([_rounded(rows, PRECISIONS[dtype]) for rows in torch.split(weight_VH, ROWS)])


def _rounded(rows: Tensor, precision: Precision) -> Tensor:
    blocks = blocks_of(rows.float(), precision)
    scales = searched_scales(blocks, torch.ones((), device=rows.device), precision)
    return Codes(rounded(blocks, scales, precision).flatten(1), scales[..., 0]).values(rows.shape[-1])
