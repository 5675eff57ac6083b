"""Grids of storage types: the nearest point of a grid, and the codes and scales of weights that lie on one.

llama.cpp's scales and codes are those of ggml-quants.c (`quantize_row_q8_0_ref` and its like), so that dequantised weights are
equal bit for bit. The scales of `int8`, `int4` and `fp8` are bfloat16, and the smallest that no number of a group exceeds
the codes of (compressed-tensors reads any).

A weight on a grid is a float32 product of a code and a scale of 16 bits, which is exact. So codes and scales follow from the
weights themselves (`codes_of`), and nothing but weights has to be kept.

Shapes: R rows of C numbers; N groups of P numbers.

Search of a group's scale: the multiple of the usual one whose rounding has the least weighted squared error.

The usual scale leaves no number of a group beyond the codes. A smaller one rounds most numbers more finely and cuts a few off;
one of the other sign gives the largest number the other end of an uneven range of codes. llama.cpp's own quantisers search
likewise (`make_qx_quants` in ggml-quants.c).

Rounding of an embedding or a head to a storage type: the nearest codes, under searched scales.

Each number counts alike, because the rows of an embedding are outputs themselves. A head that has a piece is that
(`pieces.train.head`). A child's file, its scores and its modules
have the same numbers: they follow from the parent's matrix and the type alone.

Shapes: V tokens of the vocabulary, H hidden.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from puzzledsl.alternatives.precision import PRECISIONS, Precision, PrecisionName

LARGEST_FP8 = 448.0


@dataclass(frozen=True, slots=True)
class Codes:
    """A quantised matrix: `codes` (R, G * P), float32 whole numbers or fp8 values, and `scales` (R, G), float32.

    The last group of a row is filled up with zeros.
    """

    codes: Tensor
    scales: Tensor

    def values(self, columns: int) -> Tensor:
        """Return the weights, float32 (R, columns)."""
        rows, groups = self.scales.shape
        blocks = self.codes.view(rows, groups, -1) * self.scales[..., None]
        return blocks.flatten(1)[:, :columns].contiguous()


def nearest(weight_RC: Tensor, precision: Precision) -> Tensor:
    """Round a matrix to the nearest point of the grid with the usual scales; float32.

    Raises ValueError for rows that do not fit.
    """
    blocks = blocks_of(weight_RC.float(), precision)
    exact = exact_scales(blocks, precision)
    codes = _usual_codes(blocks, exact, precision)
    return Codes(codes.flatten(1), stored_scales(exact, precision)[..., 0]).values(weight_RC.shape[-1])


def exact_scales(blocks: Tensor, precision: Precision) -> Tensor:
    """Return the usual scales of groups (…, P) before they are rounded, (…, 1), float32."""
    largest = blocks.abs().amax(-1, keepdim=True)
    if precision.high == 0:
        return largest / LARGEST_FP8
    if precision.format == "compressed":
        above, below = blocks.amax(-1, keepdim=True), blocks.amin(-1, keepdim=True)
        return torch.maximum(above / precision.high, below / precision.low).clamp_min(0)
    if precision.low == -precision.high:
        return largest / precision.high
    signed = blocks.gather(-1, blocks.abs().argmax(-1, keepdim=True))
    return signed / precision.low


def stored_scales(scales: Tensor, precision: Precision) -> Tensor:
    """Return scales as they are stored: of 16 bits, in float32."""
    kind = torch.float16 if precision.format == "gguf" else torch.bfloat16
    return scales.to(kind).float()


def rounded(values: Tensor, scales: Tensor, precision: Precision) -> Tensor:
    """Return the codes nearest to `values` under stored scales, float32; 0 where a scale is 0."""
    shares = torch.where(scales == 0, 0.0, values / scales)
    if precision.high == 0:
        return shares.clamp(-LARGEST_FP8, LARGEST_FP8).to(torch.float8_e4m3fn).float()
    if precision.levels:
        low, high = 2 * precision.levels[0], 2 * precision.levels[-1]
        places = (2 * shares).ceil_().clamp_(low, high).sub_(low).nan_to_num_(0.0).to(torch.int32)
        found = _nearest_levels(precision.levels, shares.device).index_select(0, places.flatten())
        return found.view(shares.shape)
    return shares.round().clamp_(precision.low, precision.high)


@cache
def _nearest_levels(levels: tuple[int, ...], device: torch.device) -> Tensor:
    """Return the level nearest to each multiple of a half, the lower of two: halfway between levels is a multiple, too."""
    values = torch.tensor(levels, dtype=torch.float32, device=device)
    halves = torch.arange(2 * levels[0], 2 * levels[-1] + 1, device=device) / 2
    return values[torch.bucketize(halves, (values[1:] + values[:-1]) / 2)]


def codes_of(weight_RC: Tensor, precision: Precision) -> Codes | None:
    """Return codes and scales whose products are a matrix, exactly; None if it does not lie on the grid.

    A group's largest number is some code times the scale. Each code is tried, from the largest down, until the scale has 16 bits
    and every number is a code times it.
    """
    blocks = blocks_of(weight_RC.float(), precision)
    rows, groups, size = blocks.shape
    flat = blocks.reshape(-1, size)
    signed = flat.gather(1, flat.abs().argmax(1, keepdim=True))
    codes, scales = torch.zeros_like(flat), torch.zeros_like(signed)
    open_ = (signed[:, 0] != 0).nonzero()[:, 0]
    for level in _levels(precision, flat.device):
        if not len(open_):
            break
        largest, values = signed[open_], flat[open_]
        scale = largest / level if precision.format == "gguf" else largest.abs() / level.abs()
        code = rounded(values, scale, precision)
        exact = (stored_scales(scale, precision) == scale)[:, 0] & (code * scale == values).all(1)
        found = open_[exact]
        codes[found], scales[found] = code[exact], scale[exact]
        open_ = open_[~exact]
    if len(open_):
        return None
    if precision.format == "compressed":
        scales = torch.where(scales == 0, 1.0, scales)
    return Codes(codes.view(rows, -1), scales.view(rows, groups))


def _levels(precision: Precision, device: torch.device) -> Tensor:
    """Return the codes that a group's largest number can have, by falling magnitude, float32."""
    if precision.high == 0:
        every = torch.arange(1, 127, dtype=torch.uint8, device=device).view(torch.float8_e4m3fn).float()
        return every.flip(0)
    if precision.levels:
        uneven = sorted(precision.levels, key=abs, reverse=True)
        return torch.tensor(uneven, dtype=torch.float32, device=device)
    found = torch.arange(precision.high, 0, -1, dtype=torch.float32, device=device)
    if precision.low == -precision.high:
        return found
    return torch.cat([torch.full_like(found[:1], precision.low), found])


def _usual_codes(blocks: Tensor, exact: Tensor, precision: Precision) -> Tensor:
    """Return the codes that ggml and compressed-tensors choose; ggml divides by a scale that is not rounded yet."""
    if precision.format == "compressed" or precision.levels:
        return rounded(blocks, stored_scales(exact, precision), precision)
    shares = blocks * torch.where(exact == 0, 0.0, 1 / exact)
    if precision.low == -precision.high:  # halves away from zero
        return shares.sign() * (shares.abs() + 0.5).floor()
    return (shares + (0.5 - precision.low)).trunc().clamp_(0, precision.high - precision.low) + precision.low


def blocks_of(weight_RC: Tensor, precision: Precision) -> Tensor:
    """Return the groups of each row, (R, G, P)."""
    rows, columns = weight_RC.shape
    size = precision.group(columns)
    if size is None:
        raise ValueError(f"rows of {columns} are no whole groups of {precision.name}")
    missing = -columns % size
    if missing:
        weight_RC = torch.nn.functional.pad(weight_RC, (0, missing))
    return weight_RC.reshape(rows, -1, size)


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


ROWS = 4096
"""Rows that are rounded at a time: 1 MiB of float32 for each 64 channels."""


def rounded_end(weight_VH: Tensor, dtype: PrecisionName) -> Tensor:
    """Return a matrix on the grid of a storage type, float32 [V, H]."""
    return torch.cat([_rounded(rows, PRECISIONS[dtype]) for rows in torch.split(weight_VH, ROWS)])


def _rounded(rows: Tensor, precision: Precision) -> Tensor:
    blocks = blocks_of(rows.float(), precision)
    scales = searched_scales(blocks, torch.ones((), device=rows.device), precision)
    return Codes(rounded(blocks, scales, precision).flatten(1), scales[..., 0]).values(rows.shape[-1])
