"""Weights on the grids of storage types: rounding with error compensation, searched scales, scales fitted to codes.

A weight on a grid is a float32 product of a code and a scale of 16 bits, which is exact, plus a minimum of 16 bits in `q4_1`. So
codes and scales follow from the weights themselves (`codes_of`). llama.cpp's scales and codes are those of ggml-quants.c
(`quantize_row_q8_0_ref` and its like), so that dequantised weights are equal bit for bit; the scales of `int8`, `int4` and `fp8`
are bfloat16, the smallest at which the codes reach every number of a group. A searched scale is the multiple of the usual one
whose rounding has the least weighted squared error, as in `make_qx_quants` of ggml-quants.c: a smaller scale rounds most numbers
more finely and cuts a few off. With a minimum, both are fitted to the codes of each multiple by least squares
(`make_qkx3_quants`).

GPTQ (Frantar et al., arXiv 2210.17323) rounds the columns of a matrix one after the other, by falling size of the inputs. The
error of each, e = (w - q) / U_cc, is spread over the columns that are not rounded yet, w -= e U_c; U is the upper Cholesky
factor of the inverse Gram matrix. Afterwards the scales are fitted to the codes: W x ≈ Σ_g s_g Q_g x is G equations in G
unknowns a row, with the matrix Q_g' X'X Q_h and the right side Q_g' X'X W'; minima are G more unknowns, with ones in place of
codes. Each row takes the rounding that changes its outputs least. The fewer tokens there are per input, the more the Gram matrix
is damped. In an embedding or head that no piece is made for, each number's error counts alike.

Shapes: R outputs (rows), C inputs in G or N groups of P numbers, E columns at a time; V tokens of the vocabulary, H hidden.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from puzzledsl.alternatives.precision import PRECISIONS, Precision, PrecisionName
from puzzledsl.base.frozen import Record
from puzzledsl.models.machine import Workers
from puzzledsl.models.precision.columns import LARGEST_FP8, coded, compensated, shares_of


class Codes(Record):
    """A quantised matrix: `codes` (R, G * P), the last group filled up with zeros, `scales` and `minima` (R, G); float32."""

    codes: Tensor
    scales: Tensor
    minima: Tensor

    def values(self, columns: int) -> Tensor:
        """Return the weights, float32 (R, columns)."""
        blocks = self.codes.view(*self.scales.shape, -1)
        blocks = torch.addcmul(self.minima[..., None], blocks, self.scales[..., None])
        return blocks.flatten(1)[:, :columns].contiguous()


def nearest(weight_RC: Tensor, precision: Precision) -> Tensor:
    """Round a matrix to the type's grid with the usual scales, float32. Raises ValueError for rows that are no whole groups."""
    blocks = blocks_of(weight_RC.float(), precision)
    lowest = lowest_of(blocks, precision)
    above = blocks - lowest
    exact = exact_scales(above, precision)
    codes = _usual_codes(above, exact, precision)
    scales, minima = (stored_scales(each, precision)[..., 0] for each in (exact, lowest))
    return Codes(codes.flatten(1), scales, minima).values(weight_RC.shape[-1])


def lowest_of(blocks: Tensor, precision: Precision) -> Tensor:
    """Return the minimum of each group (…, P), from which its codes count, (…, 1); 0 for a type without minima."""
    return blocks.amin(-1, keepdim=True) if precision.minimum else torch.zeros_like(blocks[..., :1])


def exact_scales(blocks: Tensor, precision: Precision) -> Tensor:
    """Return the usual scales of groups (…, P) less their minima, before rounding to 16 bits, (…, 1), float32."""
    largest = blocks.abs().amax(-1, keepdim=True)
    if precision.high == 0:
        return largest / LARGEST_FP8
    if precision.format == "compressed":
        above, below = blocks.amax(-1, keepdim=True), blocks.amin(-1, keepdim=True)
        return torch.maximum(above / precision.high, below / precision.low).clamp_min(0)
    if precision.minimum or precision.low == -precision.high:
        return largest / precision.high
    signed = blocks.gather(-1, blocks.abs().argmax(-1, keepdim=True))
    return signed / precision.low


def stored_scales(scales: Tensor, precision: Precision) -> Tensor:
    """Return scales, or minima, rounded to the 16 bits that are stored (float16 in GGUF, else bfloat16), as float32."""
    kind = torch.float16 if precision.format == "gguf" else torch.bfloat16
    return scales.to(kind).float()


def stored_pairs(scales: Tensor, minima: Tensor, precision: Precision) -> tuple[Tensor, Tensor]:
    """Return scales and minima rounded to 16 bits; the one that is far smaller than the other becomes 0.

    So scale * code + minimum is exact in float32, and codes follow from weights.
    """
    scales, minima = stored_scales(scales, precision), stored_scales(minima, precision)
    minima = torch.where(minima.abs() < scales.abs() / 256, 0.0, minima)
    return torch.where(scales.abs() < minima.abs() / 2048, 0.0, scales), minima


def rounded(values: Tensor, scales: Tensor, precision: Precision) -> Tensor:
    """Return the codes nearest to `values` under stored scales, float32; where a scale is 0, the code nearest to 0."""
    return coded(torch.where(scales == 0, 0.0, values / scales), precision)


def codes_of(weight_RC: Tensor, precision: Precision) -> Codes | None:
    """Return the codes, scales and minima that give a matrix exactly; None if it does not lie on the type's grid.

    A group's largest number is some code times the scale. Each code is tried, from the largest down, until the scale has 16 bits
    and every number is a code times it. With minima, the range of a group is some code times the scale, and its lowest number may
    have any code that leaves room for the range.
    """
    blocks = blocks_of(weight_RC.float(), precision)
    rows, groups, size = blocks.shape
    flat = blocks.reshape(-1, size)
    lowest = lowest_of(flat, precision)
    above = flat - lowest
    signed = above.gather(1, above.abs().argmax(1, keepdim=True))
    codes, scales, minima = torch.zeros_like(flat), torch.zeros_like(signed), lowest.clone()
    open_ = ((signed != 0) | (stored_scales(lowest, precision) != lowest))[:, 0].nonzero()[:, 0]
    for level, first in _levels(precision, flat.device):
        if not len(open_):
            break
        largest, values = signed[open_], flat[open_]
        scale = largest / level if precision.format == "gguf" else largest.abs() / level.abs()
        scale = stored_scales(scale, precision) if precision.minimum else scale
        minimum = stored_scales(lowest[open_] - first * scale, precision)
        code = rounded(values - minimum, scale, precision)
        exact = (stored_scales(scale, precision) == scale)[:, 0]
        exact &= (torch.addcmul(minimum, code, scale) == values).all(1)
        found = open_[exact]
        codes[found], scales[found], minima[found] = code[exact], scale[exact], minimum[exact]
        open_ = open_[~exact]
    if len(open_):
        return None
    if precision.format == "compressed":
        scales = torch.where(scales == 0, 1.0, scales)
    return Codes(codes.view(rows, -1), scales.view(rows, groups), minima.view(rows, groups))


def stored_codes(weight_RC: Tensor, precision: Precision, name: str) -> Codes:
    """Return `codes_of` a weight that must lie on the grid. Raises ValueError, with its `name`, if it does not."""
    found = codes_of(weight_RC, precision)
    if found is None:
        raise ValueError(f"{name} is not on the grid of {precision.name}")
    return found


def _levels(precision: Precision, device: torch.device) -> list[tuple[Tensor, int]]:
    """Return pairs to try: code of a group's largest number, by falling size (with minima: of its range), code of its lowest."""
    found = torch.arange(precision.high, 0, -1, dtype=torch.float32, device=device)
    if precision.minimum:
        return [(level, first) for level in found for first in range(precision.high - int(level) + 1)]
    if precision.high == 0:
        every = torch.arange(1, 127, dtype=torch.uint8, device=device).view(torch.float8_e4m3fn).float()
        found = every.flip(0)
    elif precision.levels:
        uneven = sorted(precision.levels, key=abs, reverse=True)
        found = torch.tensor(uneven, dtype=torch.float32, device=device)
    elif precision.low != -precision.high:
        found = torch.cat([torch.full_like(found[:1], precision.low), found])
    return [(level, 0) for level in found]


def _usual_codes(blocks: Tensor, exact: Tensor, precision: Precision) -> Tensor:
    """Return the codes that ggml and compressed-tensors choose; ggml divides by a scale that is not rounded yet."""
    if precision.format == "compressed" or precision.levels:
        return rounded(blocks, stored_scales(exact, precision), precision)
    shares = blocks * torch.where(exact == 0, 0.0, 1 / exact)
    if precision.low == -precision.high:  # halves away from zero
        return shares.sign() * (shares.abs() + 0.5).floor()
    return (shares + (0.5 - precision.low)).trunc().clamp_(0, precision.high - precision.low) + precision.low


def blocks_of(weight_RC: Tensor, precision: Precision) -> Tensor:
    """Return the groups of each row, (R, G, P), the last filled up with zeros. Raises ValueError for rows of no whole groups."""
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


CACHED = 1 << 18
"""Numbers whose scales are searched at a time: the tables of a search stay in a processor's cache."""


def column_scales(weight_RC: Tensor, importance_C: Tensor, precision: Precision) -> Tensor:
    """Return the `searched_scales` and minima of each number of a matrix, (2, R, C). `importance_C`: weights of their errors."""
    importance, columns = blocks_of(importance_C[None], precision), weight_RC.shape[-1]
    found = []
    for rows in torch.split(weight_RC.float(), max(1, CACHED // columns)):
        groups = blocks_of(rows, precision)
        pairs = torch.stack(searched_scales(groups, importance, precision))
        found.append(pairs.expand(2, *groups.shape).flatten(2)[..., :columns])
    return torch.cat(found, 1)


def searched_scales(blocks: Tensor, importance: Tensor, precision: Precision) -> tuple[Tensor, Tensor]:
    """Return the stored scale and minimum of each group (…, P), as (…, 1), float32; a type without minima has 0.

    `importance` is the weight of each number's squared error, in a shape that broadcasts to `blocks`. The usual scale and minimum
    stay where no others have a smaller error.
    """
    lowest = lowest_of(blocks, precision)
    usual = exact_scales(blocks - lowest, precision)
    best, minima = stored_pairs(usual, lowest, precision)
    least = _error(blocks, best, minima, importance, precision)
    for factor in _factors(precision):
        scales, low = stored_scales(usual * factor, precision), minima
        if precision.minimum:  # a range around the same middle
            low = lowest + (1 - factor) / 2 * precision.high * usual
            scales, low = _regressed(blocks, importance, scales, low, precision)
        error = _error(blocks, scales, low, importance, precision)
        nearer = error < least
        best, minima = torch.where(nearer, scales, best), torch.where(nearer, low, minima)
        least = torch.where(nearer, error, least)
    return best, minima


def _regressed(
    blocks: Tensor, importance: Tensor, scales: Tensor, minima: Tensor, precision: Precision
) -> tuple[Tensor, Tensor]:
    """Round `blocks` under the given scales and minima; return those that fit the codes best, by weighted regression."""
    codes, weights = rounded(blocks - minima, scales, precision), importance.expand_as(blocks)
    total = weights.sum(-1, keepdim=True)
    code, value = ((weights * each).sum(-1, keepdim=True) / total for each in (codes, blocks))
    off = weights * (codes - code)
    slope = (off * blocks).sum(-1, keepdim=True) / (off * codes).sum(-1, keepdim=True)
    slope = slope.nan_to_num_(0.0, 0.0, 0.0).clamp_min_(0)  # 0 where a group has one code
    return stored_pairs(slope, value - slope * code, precision)


def _factors(precision: Precision) -> tuple[float, ...]:
    if precision.high == 0:  # floats: another scale only moves the steps between codes
        return ()
    if precision.minimum or precision.format == "compressed" or precision.low == -precision.high:
        return FACTORS
    other = precision.low / precision.high
    return (*FACTORS, *(other * factor for factor in FACTORS))


def _error(
    blocks: Tensor, scales: Tensor, minima: Tensor, importance: Tensor, precision: Precision
) -> Tensor:
    blocks = blocks - minima if precision.minimum else blocks
    error = coded(blocks * shares_of(scales), precision).mul_(scales).sub_(blocks)
    return error.square_().mul_(importance).sum(-1, keepdim=True)


ROWS = 4096
"""Rows that are rounded at a time: 1 MiB of float32 for each 64 channels."""


def rounded_end(weight_VH: Tensor, dtype: PrecisionName) -> Tensor:
    """Round an embedding or head to a storage type's grid with searched scales, all errors weighted alike; float32 [V, H]."""
    return torch.cat([_rounded(rows, PRECISIONS[dtype]) for rows in torch.split(weight_VH, ROWS)])


def _rounded(rows: Tensor, precision: Precision) -> Tensor:
    blocks = blocks_of(rows.float(), precision)
    scales, minima = searched_scales(blocks, torch.ones((), device=rows.device), precision)
    codes = rounded(blocks - minima, scales, precision).flatten(1)
    return Codes(codes, scales[..., 0], minima[..., 0]).values(rows.shape[-1])


ROOM = 1 << 23
"""Limit of the numbers in the equations of the rows that are solved at once."""
RIDGE = 1e-6
"""Added to the diagonal of a row's equations, relative to its mean: any scale fits a group of zeros."""


def with_fitted_scales(found_RC: Tensor, weight_RC: Tensor, xx_CC: Tensor, precision: Precision) -> Tensor:
    """Return a rounded matrix with the same codes, and the stored scales that bring its outputs nearest to the weight's."""
    held = codes_of(found_RC, precision)
    assert held is not None, "the matrix is on the grid"
    columns, groups = found_RC.shape[1], held.scales.shape[1]
    missing = held.codes.shape[1] - columns
    xx = torch.nn.functional.pad(xx_CC.float(), (0, missing, 0, missing))
    wanted = torch.nn.functional.pad(weight_RC.float(), (0, missing)) @ xx
    usual = torch.stack([held.scales, held.minima][: 1 + precision.minimum], 1)
    rows = max(1, ROOM // (usual.shape[1] * groups) ** 2)
    chunks = zip(*(torch.split(each, rows) for each in (held.codes, wanted, usual)), strict=True)
    found = torch.cat([_fitted(codes, wants, xx, own) for codes, wants, own in chunks])
    minima = found[:, 1] if precision.minimum else held.minima
    return Codes(held.codes, *stored_pairs(found[:, 0], minima, precision)).values(columns)


def _fitted(codes: Tensor, wanted: Tensor, xx: Tensor, usual: Tensor) -> Tensor:
    """Return the fitted scales, and minima if `usual` has them, of some rows (R, 1 or 2, G).

    `wanted`: the weight times `xx`. A row in which a scale would change its sign keeps its `usual` scales and minima.
    """
    rows, kinds, groups = usual.shape
    blocks = codes.view(rows, 1, groups, -1)
    terms, size = torch.cat([blocks, torch.ones_like(blocks)][:kinds], 1), blocks.shape[-1]
    right = (wanted.view(rows, 1, groups, size) * terms).sum(-1).flatten(1)
    left = torch.empty(rows, kinds * groups, kinds * groups, device=codes.device)
    for unknown in range(kinds * groups):
        kind, group = divmod(unknown, groups)
        product = terms[:, kind, group] @ xx[group * size : (group + 1) * size]
        left[:, unknown] = (product.view(rows, 1, groups, size) * terms).sum(-1).flatten(1)
    ridge = RIDGE * left.diagonal(dim1=1, dim2=2).mean(1).clamp_min(torch.finfo(torch.float32).tiny)
    left += ridge[:, None, None] * torch.eye(kinds * groups, device=left.device)
    found = torch.linalg.solve(left.double(), right.double()).float().view_as(usual)
    alike = (found * usual > 0) | (right.view_as(usual) == 0)
    return torch.where(alike[:, :1].all(2, keepdim=True), found, usual)


DAMPING = 0.01
"""Least number added to the diagonal of the Gram matrix, relative to its mean, as in the paper. With fewer than 100 tokens per
input, it is inputs / tokens: near the best on other text, with 6k tokens of one kind as with 16k of two."""


def gptq(weight_RC: Tensor, xx_CC: Tensor, precision: Precision, tokens: int = 0) -> Tensor:
    """Round a matrix to the grid so that its outputs change little on inputs with the Gram matrix `xx_CC`; float32.

    `tokens`: number of tokens in the Gram matrix, for its damping; 0: enough. A matrix on the grid comes back as it is. Where all
    inputs are zero, the result is the nearest rounding. A matrix of many rows uses all threads that PyTorch may use.
    """
    weight, plain, xx = weight_RC.float(), nearest(weight_RC, precision), xx_CC.double()
    # the first row shows for most matrices that they are not
    if all(codes_of(rows, precision) is not None for rows in (weight[:1], weight)):
        return weight
    if not bool(xx.diagonal().mean() > 0):
        return plain
    share = max(DAMPING, len(xx) / tokens) if tokens else DAMPING
    damped = xx + share * xx.diagonal().mean() * torch.eye(len(xx), dtype=xx.dtype, device=xx.device)
    order = xx.diagonal().argsort(descending=True, stable=True)
    upper = _inverse_factor(damped[order][:, order])
    importance = torch.empty_like(upper[0])
    importance[order] = upper.diagonal().square().reciprocal()

    def rounded_rows(weight: Tensor, plain: Tensor) -> Tensor:
        scales, minima = column_scales(weight, importance, precision)
        found = torch.empty_like(weight)
        found[:, order] = compensated((weight - minima).T[order], upper, precision, scales.T[order]).T
        found += minima
        if precision.minimum:  # a group of one code is its minimum, of 16 bits
            blocks = blocks_of(found, precision)
            alike = (blocks == blocks[..., :1]).all(-1, keepdim=True)
            found = torch.where(alike, stored_scales(blocks, precision), blocks).flatten(1)
        return best_rows([plain, found, with_fitted_scales(found, weight, damped, precision)], weight, xx)

    parts = [*zip(torch.split(weight, ROWS), torch.split(plain, ROWS), strict=True)]
    with Workers(weight.device, most=len(parts)) as pool:
        return torch.cat([found for _, found in pool.each(lambda part: rounded_rows(*part), parts)])


def best_rows(tried: Sequence[Tensor], weight_RC: Tensor, xx_CC: Tensor) -> Tensor:
    """Return for each row the one of its `tried` roundings that changes its outputs least; the first of equals."""
    errors, xx = (found - weight_RC.float() for found in tried), xx_CC.float()
    best = torch.stack([((error @ xx) * error).sum(1) for error in errors]).argmin(0)
    return torch.stack(list(tried))[best, torch.arange(len(weight_RC), device=weight_RC.device)]


def _inverse_factor(xx: Tensor) -> Tensor:
    """Return the upper Cholesky factor of the inverse of a Gram matrix, float32: inverse of the upper R with R R' = xx."""
    upper = torch.linalg.cholesky(xx.flip(0, 1)).flip(0, 1)
    identity = torch.eye(len(xx), dtype=xx.dtype, device=xx.device)
    inverse: Tensor = torch.linalg.solve_triangular(upper, identity, upper=True)
    return inverse.float()
