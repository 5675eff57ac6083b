"""A dense FFN in place of a mixture: one expert for all tokens, with the channels of all experts that matter most.

Channels that contribute most, mean g |a_c| ||D_c|| over all tokens, form a pool. Elimination on the mixture's outputs chooses
among them. Shapes: T tokens, H hidden, P channels in the pool.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain

import torch
from torch import Tensor

from puzzledsl.models.least_squares.channels import elimination_order
from puzzledsl.models.least_squares.grams import TOWARDS_START, Gram, solve_ridge
from puzzledsl.models.mixtures.experts import Expert, Mixture, stacked

POOL = 2
"""The pool has so many times as many channels as are kept."""


def dense(mixture: Mixture, shared: Sequence[Expert], x_TH: Tensor, y_TH: Tensor, width: int) -> Expert:
    """Return the FFN of `width` channels that is nearest to y; `shared` experts see every token already."""
    shares, usage = [], []
    for expert, routed in zip(mixture.experts, mixture.route(x_TH), strict=True):
        read = mixture.activations(expert, x_TH[routed.tokens]).abs() * routed.weights
        usage.append(read.sum(0) * expert.down.weight.float().norm(dim=0))
        shares.append(float(routed.weights.sum()) / len(x_TH))
    for expert in shared:
        usage.append(torch.full((expert.width,), torch.inf, device=x_TH.device))
        shares.append(1.0)
    used = torch.cat(usage)
    some = used.topk(min(POOL * width, len(used))).indices.sort().values
    parts, first = [], 0
    for expert in chain(mixture.experts, shared):
        last = first + expert.width
        parts.append(expert.channels(some[(some >= first) & (some < last)] - first))
        first = last
    wide = stacked(parts)  # of the pool's channels alone: all experts side by side are as large as the layer
    start_PH = torch.cat(
        [part.down.weight.double().T * share for part, share in zip(parts, shares, strict=True)]
    )
    bias = _bias(parts, shares)
    gram = Gram.zeros(len(some), y_TH.shape[1], x_TH.device)
    gram.add(
        mixture.rules.activate(None if wide.gate is None else wide.gate(x_TH), wide.up(x_TH)), y_TH - bias
    )
    ridge = gram.ridge(TOWARDS_START)
    full = solve_ridge(gram.xx, gram.xy, start_PH, relative=ridge)
    kept = elimination_order(gram.xx, full)[len(some) - width :].sort().values
    down = solve_ridge(gram.xx[kept][:, kept], gram.xy[kept], full[kept], relative=ridge)
    made = wide.channels(kept).with_down(down.T.float())
    return made if made.down.bias is None else replace(made, down=replace(made.down, bias=bias))


def _bias(experts: Sequence[Expert], shares: Sequence[float]) -> Tensor:
    """Return the mean over all tokens of what the biases of the experts' outputs add; a scalar 0 without biases."""
    pairs = zip(experts, shares, strict=True)
    added = [share * expert.down.bias.float() for expert, share in pairs if expert.down.bias is not None]
    return torch.stack(added).sum(0) if added else torch.zeros((), device=experts[0].down.weight.device)
