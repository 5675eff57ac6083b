"""Merged experts: one expert in place of several, with the channels of all of them that matter most.

The channels of a group are put side by side in one wide expert that answers for every token of the group; its down projection
is fitted to the sum that the group's experts gave. Elimination then leaves as many channels as wanted: of two channels that do
the same, whichever experts they come from, one goes. The router's new row is fitted to log sum exp of the group's logits.

Shapes: T tokens, N tokens of a group, H hidden, W channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from puzzledsl.models.least_squares.channels import elimination_order
from puzzledsl.models.least_squares.grams import TOWARDS_START, Gram, solve_ridge
from puzzledsl.models.mixtures.experts import Expert, Mixture, stacked

ROW_RIDGE = 3.0
"""Ridge times tokens a weight of a merged router row."""


def groups_of(mixture: Mixture, kept: Sequence[int], x_TH: Tensor) -> list[list[int]]:
    """Return for each kept expert itself and the others that it replaces with the least squared error on their tokens."""
    groups = {e: [e] for e in kept}
    for e, (routed, output) in enumerate(mixture.parts(x_TH)):
        if e in groups:
            continue
        x = x_TH[routed.tokens]
        errors = {m: float((mixture.outputs(m, x) * routed.weights - output).square().sum()) for m in kept}
        groups[min(errors, key=errors.__getitem__)].append(e)
    return list(groups.values())


def merge(mixture: Mixture, groups: Sequence[Sequence[int]], x_TH: Tensor, width: int) -> Mixture:
    """Return a mixture of one expert of `width` channels for each group."""
    logits_TE = mixture.logits(x_TH)
    routes = mixture.route(x_TH)
    dense = torch.zeros_like(logits_TE)
    for e, routed in enumerate(routes):
        dense[routed.tokens, e] = routed.weights[:, 0]
    experts, rows = [], []
    for group in groups:
        members = list(group)
        weights_TG = dense[:, members]
        used = weights_TG.sum(1) > 0
        x = x_TH[used]
        experts.append(_merged(mixture, members, x, weights_TG[used], width))
        rows.append(_row(mixture, members, x, logits_TE[used][:, members]))
    firsts = [group[0] for group in groups]
    bias = None if mixture.bias is None else mixture.bias[firsts]
    return replace(mixture, router=torch.stack(rows), bias=bias, experts=experts)


def _merged(mixture: Mixture, members: list[int], x_NH: Tensor, weights_NG: Tensor, width: int) -> Expert:
    parts = [mixture.experts[e] for e in members]
    if len(members) == 1 and width >= parts[0].width:
        return parts[0]
    total_N1 = weights_NG.sum(1, keepdim=True)
    read = torch.cat([mixture.activations(e, x_NH) for e in members], 1) * total_N1
    wanted = torch.stack(
        [mixture.outputs(e, x_NH) * weights_NG[:, i, None] for i, e in enumerate(members)]
    ).sum(0)
    gram = Gram.zeros(read.shape[1], wanted.shape[1], read.device)
    gram.add(read, wanted)
    shares = weights_NG.sum(0) / total_N1.sum()
    start = torch.cat(
        [part.down.weight.float().T * share for part, share in zip(parts, shares, strict=True)]
    ).double()
    ridge = gram.ridge(TOWARDS_START)
    full = solve_ridge(gram.xx, gram.xy, start, relative=ridge)
    order = elimination_order(gram.xx, full)
    kept = order[len(order) - width :].sort().values
    down = solve_ridge(gram.xx[kept][:, kept], gram.xy[kept], full[kept], relative=ridge).T.float()
    return stacked(parts).channels(kept).with_down(down)


def _row(mixture: Mixture, members: list[int], x_NH: Tensor, logits_NG: Tensor) -> Tensor:
    own = mixture.router[members[0]].float()
    if len(members) == 1:
        return own
    gram = Gram.zeros(x_NH.shape[1], 1, x_NH.device)
    bias_G = 0.0 if mixture.bias is None else (mixture.bias[members] - mixture.bias[members[0]]).float()
    gram.add(x_NH, (logits_NG + bias_G).logsumexp(1, keepdim=True))
    start = own[:, None].double()
    return solve_ridge(gram.xx, gram.xy, start, relative=gram.ridge(ROW_RIDGE))[:, 0].float()
