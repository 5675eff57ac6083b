"""Which FFN channels to keep, and the down projection that makes the most of them.

Optimal brain surgeon on the output error: with G = A'A the Gram matrix of the intermediate activations and W = W_down'
(F, H), removing channel c costs ||W_c||^2 / [G^-1]_cc once the others have made up for it. One elimination order
serves every width.

Shapes: F channels (intermediate width), H hidden.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from puzzledsl.models.least_squares.grams import TOWARDS_START, Gram, ridge_of, solve_ridge

BLOCK_SHARE, MAX_BLOCK, POOL = 32, 64, 4
"""A round removes 1/32 of the channels left (at most 64), choosing one by one among the 4 x as many cheapest."""
ORDER_RIDGE = 0.1
"""Relative; from 1e-3 to 1 the held-out error of SmolLM2's layers changes by 1 %."""


def elimination_order(gram_FF: Tensor, down_FH: Tensor) -> Tensor:
    """Channels in the order in which they go (F,), int64. Float64 inside; F^3 multiplications, in blocks.

    Within a round the choice is greedy and exact among the candidates; the others learn of it at the round's end.
    """
    device, alive = gram_FF.device, np.arange(gram_FF.shape[0])
    inverse = inverted(damped(gram_FF))
    weights = down_FH.to(gram_FF).clone()
    order: list[int] = []
    while len(alive) > 0:
        block = max(1, min(len(alive) // BLOCK_SHARE, MAX_BLOCK))
        pool = min(POOL * block, len(alive)) if block > 1 else 1
        cost = weights.square().sum(1) / inverse.diagonal()
        candidates = torch.topk(cost, pool, largest=False).indices
        chosen = _greedy(candidates, inverse[candidates][:, candidates], weights[candidates], block)
        order += alive[chosen].tolist()
        stays = np.ones(len(alive), dtype=np.bool_)
        stays[chosen] = False
        moved = torch.from_numpy(np.concatenate([chosen, stays.nonzero()[0]])).to(device)
        gone, keep = moved[: len(chosen)], moved[len(chosen) :]
        rows = inverse[gone]
        gain = torch.linalg.solve(rows[:, gone], rows[:, keep]).T
        weights = torch.addmm(weights[keep], gain, weights[gone], alpha=-1)
        inverse = torch.addmm(inverse[keep].index_select(1, keep), gain, rows[:, keep], alpha=-1)
        alive = alive[stays]
    return torch.tensor(order, dtype=torch.int64, device=device)


def damped(gram_FF: Tensor) -> Tensor:
    """The Gram matrix with each diagonal entry raised by ORDER_RIDGE of itself: a silent channel stays free to remove."""
    return gram_FF + torch.diag(ORDER_RIDGE * gram_FF.diagonal() + ridge_of(gram_FF, 1e-9))


def inverted(symmetric: Tensor) -> Tensor:
    """The inverse of a symmetric matrix; the pseudo-inverse if it is not definite."""
    factor, info = torch.linalg.cholesky_ex(symmetric)
    return torch.cholesky_inverse(factor) if int(info) == 0 else torch.linalg.pinv(symmetric, hermitian=True)


def _greedy(candidates: Tensor, inverse_PP: Tensor, weights_PH: Tensor, count: int) -> NDArray[np.int64]:
    """Exact greedy elimination of `count` of a few candidates, in order; in NumPy, for thousands of tiny steps."""
    parts = [candidates[None].to(inverse_PP), inverse_PP, weights_PH @ weights_PH.T]
    (places,), inverse, cross = np.split(torch.cat(parts).cpu().numpy(), [1, 1 + len(candidates)])
    penalty = np.zeros(len(inverse))
    gone = []
    for _ in range(count):
        cost = cross.diagonal() / np.maximum(inverse.diagonal(), 1e-300) + penalty
        c = int(cost.argmin())
        gone.append(c)
        penalty[c] = np.inf
        gain = inverse[:, c] / inverse[c, c]
        moved = np.outer(gain, cross[c])
        cross += np.outer(gain, gain * cross[c, c]) - moved - moved.T
        inverse -= np.outer(gain, inverse[c])
    chosen: NDArray[np.int64] = places[gone].astype(np.int64)
    return chosen


def contribution_order(activation_abs_F: Tensor, down_FH: Tensor) -> Tensor:
    """Channels by rising contribution mean|a_c| * ||W_c|| (Puzzle, section 3: channel contribution), first to go first."""
    return torch.argsort(activation_abs_F * down_FH.to(activation_abs_F).norm(dim=1), stable=True)


def fitted_channels(gram: Gram, start_PH: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """Return `width` of the inputs, ascending, and the map from them (width, H) that is nearest to the outputs, float64."""
    ridge = gram.ridge(TOWARDS_START)
    full = solve_ridge(gram.xx, gram.xy, start_PH, relative=ridge)
    kept = elimination_order(gram.xx, full)[len(full) - width :].sort().values
    return kept, solve_ridge(gram.xx[kept][:, kept], gram.xy[kept], full[kept], relative=ridge)


def refit_down(activations: Gram, down_FH: Tensor, kept: Tensor) -> Tensor:
    """The down projection (len(kept), H) of the kept channels that is nearest to the full FFN's output, float64."""
    full = down_FH.to(activations.xx)
    rows = activations.xx[kept]
    ridge = activations.ridge(TOWARDS_START)
    return solve_ridge(rows[:, kept], rows @ full, start=full[kept], relative=ridge)
