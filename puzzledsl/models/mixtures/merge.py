"""Merged experts: one expert in place of several, with the channels of all of them that matter most.

The channels of a group are put side by side in one wide expert that answers for every token of the group; its down projection
is fitted to the sum that the group's experts gave. Elimination then leaves as many channels as wanted: of two channels that do
the same, whichever experts they come from, one goes. The router's new row is fitted to log sum exp of the group's logits.

The sums over a group's channels grow with the square of their number, so large experts are merged with a few others or none.

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
ROOM_SHARE, LEAST_ROOM = 0.2, 2**27
"""Bytes that merging may take: a share of those of all experts, or 128 MiB."""
SQUARES, SLABS = 4, 5
"""Float64 matrices [C, C] and [C, H] that merging C channels holds at once."""


def most_together(mixture: Mixture, experts: int, width: int) -> int:
    """Return the number of experts that merging into `experts` of `width` channels has the memory to put into a group."""
    first = mixture.experts[0]
    channels, hidden = first.width, first.up.weight.shape[1]
    whole = len(mixture.experts) * channels * first.channel_bytes
    room = max(ROOM_SHARE * whole, LEAST_ROOM) - experts * width * first.channel_bytes
    return max(
        (
            count
            for count in range(1, len(mixture.experts) + 1)
            if 8 * count * channels * (SQUARES * count * channels + SLABS * hidden) <= room
        ),
        default=1,
    )


def groups_of(
    mixture: Mixture, kept: Sequence[int], x_TH: Tensor, most: int | None = None
) -> list[list[int]]:
    """Return for each kept expert itself and the others that it replaces with the least squared error on their tokens.

    A group has at most `most` experts, the nearest ones; the rest are in no group.
    """
    near: dict[int, list[tuple[float, int]]] = {e: [] for e in kept}
    for e, (routed, output) in enumerate(mixture.parts(x_TH)):
        if e in near:
            continue
        x = x_TH[routed.tokens]
        errors = {m: float((mixture.outputs(m, x) * routed.weights - output).square().sum()) for m in kept}
        nearest = min(errors, key=errors.__getitem__)
        near[nearest].append((errors[nearest], e))
    others = None if most is None else most - 1
    return [[m, *sorted(e for _, e in sorted(found)[:others])] for m, found in near.items()]


def merge(mixture: Mixture, groups: Sequence[Sequence[int]], x_TH: Tensor, width: int) -> Mixture:
    """Return a mixture of one expert of `width` channels for each group. Its down projections are its own."""
    logits_TE = mixture.logits(x_TH)
    routes = mixture.route(x_TH)
    dense = torch.zeros_like(logits_TE)
    for e, routed in enumerate(routes):
        dense[routed.tokens, e] = routed.weights[:, 0]
    firsts = [group[0] for group in groups]
    alone = [len(group) == 1 and width >= mixture.experts[group[0]].width for group in groups]
    experts = [_room(mixture.experts[m], width, kept) for m, kept in zip(firsts, alone, strict=True)]
    rows = []
    for place, group in zip(experts, groups, strict=True):
        members = list(group)
        weights_TG = dense[:, members]
        used = weights_TG.sum(1) > 0
        x = x_TH[used]
        place.put(_merged(mixture, members, x, weights_TG[used], width))
        rows.append(_row(mixture, members, x, logits_TE[used][:, members]))
    bias = None if mixture.bias is None else mixture.bias[firsts]
    return replace(mixture, router=torch.stack(rows), bias=bias, experts=experts)


def _room(expert: Expert, width: int, kept: bool) -> Expert:
    """Return memory for a merged expert. A kept one is the parent's but for a copy of its down projection."""
    return expert.with_own_down() if kept else expert.room(width)


def _merged(mixture: Mixture, members: list[int], x_NH: Tensor, weights_NG: Tensor, width: int) -> Expert:
    parts = [mixture.experts[e] for e in members]
    if len(members) == 1 and width >= parts[0].width:
        return parts[0]
    total_N1 = weights_NG.sum(1, keepdim=True)
    read = torch.cat([mixture.activations(part, x_NH) for part in parts], 1) * total_N1
    wanted = torch.zeros_like(x_NH)
    for i, e in enumerate(members):
        wanted += mixture.outputs(e, x_NH) * weights_NG[:, i, None]
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
