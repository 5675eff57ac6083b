"""Choice of query heads to keep, and the output projection that makes the most of them.

Optimal brain surgeon on the output error, a head at a time (block form of `channels`): with G the Gram matrix of what
the output projection reads and W = W_o', removing the D rows of head h costs tr(W_h' [G^-1]_hh^-1 W_h) once the others
have made up for it. Shapes: N query heads, D head_dim, H hidden.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from puzzledsl.models.least_squares.channels import damped, inverted
from puzzledsl.models.least_squares.grams import TOWARDS_START, Gram, solve_ridge


def kept_heads(gram: Tensor, weight: Tensor, heads: int, groups: int, kept: int) -> list[int]:
    """Return the `kept` of `heads` query heads to keep, ascending; equally many of each of `groups`, which lie side by side.

    `gram` (N * D, N * D), float64; `weight` (N * D, H). Heads are removed one by one, the cheapest first.
    """
    dim, size = len(gram) // heads, heads // groups
    inverse_gram, rest = inverted(damped(gram)), weight.to(gram).clone()
    alive = list(range(heads))
    while len(alive) > kept:
        left = [sum(head // size == group for head in alive) for group in range(groups)]
        free = [head for head in alive if left[head // size] > kept // groups]
        gone = min(free, key=lambda head: _cost(inverse_gram, rest, rows_of([head], dim)))
        rows = rows_of([gone], dim)
        gain = torch.linalg.solve(inverse_gram[rows][:, rows], inverse_gram[rows]).T
        rest = rest - gain @ rest[rows]
        inverse_gram = inverse_gram - gain @ inverse_gram[rows]
        alive.remove(gone)
    return alive


def loudest_heads(gram: Tensor, weight: Tensor, heads: int, groups: int, kept: int) -> list[int]:
    """Return the heads of each group with the largest sum over channels of rms(a_c) * ||W_c||, ascending."""
    rms = gram.diagonal().clamp_min(0).sqrt()
    loudness = (rms * weight.to(gram).norm(dim=1)).view(groups, heads // groups, -1).sum(-1)
    top = torch.topk(loudness, kept // groups, dim=1).indices
    offset = torch.arange(groups, device=top.device)[:, None] * (heads // groups)
    return sorted((top + offset).flatten().tolist())


def refit_rows(gram: Gram, weight: Tensor, rows: Tensor) -> Tensor:
    """Return the rows of W_o' for the kept channels that bring the outputs nearest to the sums, (rows, H), float64."""
    kept = gram.xx[rows][:, rows]
    return solve_ridge(kept, gram.xy[rows], weight.to(gram.xx)[rows], relative=gram.ridge(TOWARDS_START))


def _cost(inverse_gram: Tensor, rest: Tensor, rows: Tensor) -> float:
    own = rest[rows]
    return float((own * torch.linalg.solve(inverse_gram[rows][:, rows], own)).sum())


def rows_of(heads: Sequence[int], dim: int) -> Tensor:
    """Return the rows of these heads, `dim` each."""
    return torch.cat([torch.arange(head * dim, (head + 1) * dim) for head in heads])
