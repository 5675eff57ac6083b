"""A dense FFN in place of a mixture: one expert for all tokens, with the channels of all experts that matter most.

Channels that contribute most, mean g |a_c| ||D_c|| over all tokens, form a pool. Elimination on the mixture's outputs chooses
among them. Shapes: T tokens, H hidden, P channels in the pool.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain

import torch
from torch import Tensor

from puzzledsl.models.least_squares.channels import elimination_order
from puzzledsl.models.least_squares.grams import TOWARDS_START, Gram, solve_ridge
from puzzledsl.models.mixtures.experts import Expert, Mixture, stacked

POOL = 2
"""The pool has so many times as many channels as are kept."""


@dataclass(frozen=True, slots=True)
class _Pool:
    """Channels of several experts as one, its down projection [P, H], float64, and the bias of its outputs [H] or a scalar 0.

    Each expert's part of them is multiplied by the mean of the router's weight over all tokens.
    """

    wide: Expert
    down_PH: Tensor
    bias: Tensor

    def with_down(self, kept: Tensor, down_PH: Tensor) -> Expert:
        """Return the FFN of some of the channels."""
        made = self.wide.channels(kept).with_down(down_PH.T.float())
        return made if made.down.bias is None else replace(made, down=replace(made.down, bias=self.bias))


def dense(mixture: Mixture, shared: Sequence[Expert], x_TH: Tensor, y_TH: Tensor, width: int) -> Expert:
    """Return the FFN of `width` channels that is nearest to y; `shared` experts see every token already."""
    pool = _pool(mixture, shared, x_TH, POOL * width)
    wide, channels = pool.wide, len(pool.down_PH)
    gram = Gram.zeros(channels, y_TH.shape[1], x_TH.device)
    gram.add(
        mixture.rules.activate(None if wide.gate is None else wide.gate(x_TH), wide.up(x_TH)),
        y_TH - pool.bias,
    )
    ridge = gram.ridge(TOWARDS_START)
    full = solve_ridge(gram.xx, gram.xy, pool.down_PH, relative=ridge)
    kept = elimination_order(gram.xx, full)[channels - width :].sort().values
    return pool.with_down(
        kept, solve_ridge(gram.xx[kept][:, kept], gram.xy[kept], full[kept], relative=ridge)
    )


def contributing(mixture: Mixture, shared: Sequence[Expert], x_TH: Tensor, width: int) -> Expert:
    """Return the FFN of the `width` channels that contribute most, with the mixture's weights; nothing is fitted."""
    pool = _pool(mixture, shared, x_TH, width)
    return pool.with_down(torch.arange(len(pool.down_PH), device=x_TH.device), pool.down_PH)


def _pool(mixture: Mixture, shared: Sequence[Expert], x_TH: Tensor, channels: int) -> _Pool:
    """Return the channels that contribute most; those of shared experts first."""
    shares, usage = [], []
    for expert, routed in zip(mixture.experts, mixture.route(x_TH), strict=True):
        read = mixture.activations(expert, x_TH[routed.tokens]).abs() * routed.weights
        usage.append(read.sum(0) * expert.down.weight.float().norm(dim=0))
        shares.append(float(routed.weights.sum()) / len(x_TH))
    for expert in shared:
        usage.append(torch.full((expert.width,), torch.inf, device=x_TH.device))
        shares.append(1.0)
    used = torch.cat(usage)
    some = used.topk(min(channels, len(used))).indices.sort().values
    parts, first = [], 0
    for expert in chain(mixture.experts, shared):
        last = first + expert.width
        parts.append(expert.channels(some[(some >= first) & (some < last)] - first))
        first = last
    wide = stacked(parts)  # of the pool's channels alone: all experts side by side are as large as the layer
    downs = [part.down.weight.double().T * share for part, share in zip(parts, shares, strict=True)]
    return _Pool(wide, torch.cat(downs), _bias(parts, shares))


def _bias(experts: Sequence[Expert], shares: Sequence[float]) -> Tensor:
    """Return the mean over all tokens of what the biases of the experts' outputs add; a scalar 0 without biases."""
    pairs = zip(experts, shares, strict=True)
    added = [share * expert.down.bias.float() for expert, share in pairs if expert.down.bias is not None]
    return torch.stack(added).sum(0) if added else torch.zeros((), device=experts[0].down.weight.device)
