"""A smaller mixture: fewer experts, narrower ones, another number of experts a token.

Each order says which experts to keep; the others are dropped, or merged into these. Of all mixtures made so, the one with the
least error on tokens left out of the fits is made again for the last fit, so that only one is in memory at a time.

- Orders: `reap` (router-weighted expert activation pruning, arXiv 2510.13999) ranks experts; `damage_order`
  drops the expert without which the outputs change least, once the router has chosen others for its tokens, and repeats.
- A merged expert has the channels of a group that matter most. Side by side they are one wide expert that answers for every
  token of the group; its down projection is fitted to the sum that the group gave, and elimination leaves as many channels as
  wanted. The router's new row is fitted to log sum exp of the group's logits. Sums grow with the square of the channels, so
  large experts are merged with a few others or none. Merging lowers the loss of a child of half the experts by a third
  (docs/science.md).
- Narrower experts: optimal brain surgeon on each expert's own tokens, weighted by the router.
- Fits: with fixed routing a mixture is linear in its down projections, y(x) = sum_e g_e(x) D_e a_e(x). Gauss-Seidel over the
  experts solves for all with the Gram matrix of one at a time. The router is refitted by Gauss-Newton steps, row by row:
  dy/dlogit_e = g_e (o_e - y) where the weights of a token's experts sum to 1.

Shapes: T tokens, N tokens of an expert or a group, H hidden, W channels of an expert, E experts, R columns of a sketch.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from puzzledsl.base.frozen import Record
from puzzledsl.models.least_squares import grams
from puzzledsl.models.mixtures.experts import Expert, Mixture, owning_downs, stacked

MEASURED_TOKENS = 4096  # tokens on which `damage_order` measures
SKETCHED = 64
"""Columns of the random projection in which outputs are compared; sums over thousands of tokens keep their order."""


def reap(mixture: Mixture, x_TH: Tensor) -> list[float]:
    """Return for each expert the mean over its tokens of the router's weight times its output's norm; 0 without tokens."""
    return [float(output.norm(dim=1).mean()) if len(output) else 0.0 for _, output in mixture.parts(x_TH)]


def damage_order(mixture: Mixture, x_TH: Tensor, y_TH: Tensor) -> list[int]:
    """Return the experts in the order to remove them in, least missed first. To keep n experts, keep the last n."""
    x, y = x_TH[:MEASURED_TOKENS], y_TH[:MEASURED_TOKENS]
    sketch = _sketch(x.shape[1], x.device)
    outputs_ETR = x.new_empty(len(mixture.experts), len(x), sketch.shape[1])
    for e, output_TR in enumerate(outputs_ETR):
        torch.matmul(mixture.outputs(e, x), sketch, out=output_TR)
    measured = _Measured(mixture, mixture.logits(x), outputs_ETR, y @ sketch)
    order: list[int] = []
    alive = list(range(len(mixture.experts)))
    while len(alive) > 1:
        gone = measured.least_missed(alive)
        order.append(gone)
        alive.remove(gone)
    return order + alive


class _Measured(Record):
    """Logits of all experts, sketches of all their outputs [E, T, R] and of the outputs wanted [T, R]."""

    mixture: Mixture
    logits_TE: Tensor
    outputs_ETR: Tensor
    wanted_TR: Tensor

    def least_missed(self, alive: list[int]) -> int:
        """Return the one of `alive` whose removal adds least to the squared error. Only its own tokens are routed anew."""
        all_rows = torch.arange(len(self.wanted_TR), device=self.wanted_TR.device)
        errors_T, numbers_TK = self._errors(all_rows, alive)
        damages = []
        for gone in alive:
            own = (numbers_TK == gone).any(1).nonzero()[:, 0]
            without, _ = self._errors(own, [e for e in alive if e != gone])
            damages.append(float((without - errors_T[own]).sum(dtype=torch.float64)))
        return alive[damages.index(min(damages))]

    def _errors(self, tokens: Tensor, alive: list[int]) -> tuple[Tensor, Tensor]:
        """Return squared errors [N] and chosen experts [N, K] of some tokens, with these experts alone."""
        mixture, kept = self.mixture, torch.tensor(alive, device=tokens.device)
        bias = None if mixture.bias is None else mixture.bias[kept]
        logits = self.logits_TE[tokens][:, kept]
        weights_NK, places_NK = mixture.rules.route(logits, bias, min(mixture.top_k, len(alive)))
        numbers_NK = kept[places_NK]
        chosen_NKR = self.outputs_ETR[numbers_NK, tokens[:, None]]
        made_NR = (chosen_NKR * weights_NK[..., None]).sum(1)
        return (made_NR - self.wanted_TR[tokens]).square().sum(1), numbers_NK


def _sketch(hidden: int, device: torch.device) -> Tensor:
    if hidden <= SKETCHED:
        return torch.eye(hidden, device=device)
    generator = torch.Generator().manual_seed(0)
    sketch = torch.randn(hidden, SKETCHED, generator=generator) / math.sqrt(SKETCHED)
    return sketch.to(device)


SWEEPS = 5
"""Gauss-Seidel sweeps over the down projections. From 3 to 8, the held-out error of layers falls by 2 % to 13 %."""
ROUTER_RIDGE = 3.0  # relative ridge x tokens per weight of a router row
ROUTER_STEPS = 2
SHARES = (1.0, 0.7, 0.4, 0.2)  # shares of a step of the router that are tried on tokens it was not fitted to
UNSEEN = 8  # one of so many tokens judges the router's steps


def overwrite_downs(mixture: Mixture, x_TH: Tensor, y_TH: Tensor) -> None:
    """Fit the down projections to y in place, pulled towards what they were."""
    routes = mixture.route(x_TH)
    missing = y_TH - mixture(x_TH)
    for _ in range(SWEEPS):
        for e, routed in enumerate(routes):
            if not len(routed.tokens):
                continue
            expert = mixture.experts[e]
            read = mixture.activations(expert, x_TH[routed.tokens]) * routed.weights
            gram = grams.Gram.zeros(read.shape[1], y_TH.shape[1], read.device)
            gram.add(read, missing[routed.tokens])
            step = grams.solve_ridge(gram.xx, gram.xy, relative=gram.ridge(grams.TOWARDS_START)).float()
            moved = _add(expert.down.weight, step.T)
            missing.index_add_(0, routed.tokens, read @ moved.T, alpha=-1)


def _add(weight_HW: Tensor, step_HW: Tensor) -> Tensor:
    """Add a step to a weight in place; return the step as the weight's dtype rounds it, so that later fits correct the rest."""
    if weight_HW.dtype == step_HW.dtype:
        weight_HW += step_HW
        return step_HW
    before = weight_HW.float()
    weight_HW.copy_(before + step_HW)
    return weight_HW.float() - before


def refit_router(mixture: Mixture, x_TH: Tensor, y_TH: Tensor) -> Mixture:
    """Return the mixture with a router fitted to y, as far as it improves the outputs for tokens left out of the fit."""
    judges = unseen(x_TH)
    judging = x_TH[judges], y_TH[judges]
    least = mixture.error(*judging)
    for _ in range(ROUTER_STEPS):
        step_EH = _router_step(mixture, x_TH[~judges], y_TH[~judges])
        tried = [replace(mixture, router=mixture.router.float() + share * step_EH) for share in SHARES]
        best, place = min((other.error(*judging), place) for place, other in enumerate(tried))
        if best >= least:
            break
        mixture, least = tried[place], best
    return mixture


def _router_step(mixture: Mixture, x_TH: Tensor, y_TH: Tensor) -> Tensor:
    """Return the Gauss-Newton step of all rows [E, H], each fitted to what the rows before it leave.

    Experts are run twice, since to keep the outputs of all of them would take K times the memory of y.
    """
    made = mixture(x_TH)
    missing = y_TH - made
    steps = []
    for e, routed in enumerate(mixture.route(x_TH)):
        tokens = routed.tokens
        slope_NH = routed.weights * (mixture.outputs(e, x_TH[tokens]) - made[tokens])
        square_N1 = slope_NH.square().sum(1, keepdim=True)
        root = square_N1.clamp_min(1e-30).sqrt()
        gram = grams.Gram.zeros(x_TH.shape[1], 1, x_TH.device)
        gram.add(x_TH[tokens] * root, (slope_NH * missing[tokens]).sum(1, keepdim=True) / root)
        row = grams.solve_ridge(gram.xx, gram.xy, relative=gram.ridge(ROUTER_RIDGE)).float()
        steps.append(row[:, 0])
        missing.index_add_(0, tokens, slope_NH * (x_TH[tokens] @ row), alpha=-1)
    return torch.stack(steps)


def overwrite(mixture: Mixture, x_TH: Tensor, y_TH: Tensor) -> Mixture:
    """Fit to y the down projections, in place, then the router, then the down projections again; return the mixture."""
    overwrite_downs(mixture, x_TH, y_TH)
    fitted = refit_router(mixture, x_TH, y_TH)
    overwrite_downs(fitted, x_TH, y_TH)
    return fitted


def unseen(x_TH: Tensor) -> Tensor:
    """Return a mask [T], True for the tokens that judge a fit and are left out of it: one in `UNSEEN`."""
    return torch.arange(len(x_TH), device=x_TH.device) % UNSEEN == 0


ROW_RIDGE = 3.0  # relative ridge x tokens per weight of a merged router row
ROOM_SHARE, LEAST_ROOM = 0.2, 2**27
"""Bytes that merging may take: a share of those of all experts, or 128 MiB if that is more."""
SQUARES, SLABS = 4, 5  # float64 matrices [C, C] and [C, H] that merging C channels holds at once


def most_together(mixture: Mixture, experts: int, width: int) -> int:
    """Return the most experts in a group for which there is memory to merge the mixture into `experts` of `width` channels."""
    first = mixture.experts[0]
    channels, hidden = first.width, first.up.weight.shape[1]
    whole = len(mixture.experts) * channels * first.channel_bytes
    room = max(ROOM_SHARE * whole, LEAST_ROOM) - experts * width * first.channel_bytes

    def fits(count: int) -> bool:
        return 8 * count * channels * (SQUARES * count * channels + SLABS * hidden) <= room

    return max(filter(fits, range(1, len(mixture.experts) + 1)), default=1)


def groups_of(
    mixture: Mixture, kept: Sequence[int], x_TH: Tensor, most: int | None = None
) -> list[list[int]]:
    """Return a group for each kept expert: itself, and the others that it replaces with the least squared error on their tokens.

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
    """Return a mixture of one expert of `width` channels for each group. Fits may overwrite its down projections."""
    logits_TE = mixture.logits(x_TH)
    routes = mixture.route(x_TH)
    dense = torch.zeros_like(logits_TE)
    for e, routed in enumerate(routes):
        dense[routed.tokens, e] = routed.weights[:, 0]
    firsts = [group[0] for group in groups]
    alone = [len(group) == 1 and width >= mixture.experts[group[0]].width for group in groups]
    experts = [  # memory for the merged ones; one alone is the parent's but for a copy of its down projection
        expert.with_down(expert.down.weight.clone()) if kept else expert.room(width)
        for expert, kept in zip((mixture.experts[m] for m in firsts), alone, strict=True)
    ]
    rows = []
    for place, group in zip(experts, groups, strict=True):
        members = list(group)
        weights_TG = dense[:, members]
        used = weights_TG.sum(1) > 0
        x = x_TH[used]
        place.put(_one_of_several(mixture, members, x, weights_TG[used], width))
        rows.append(_row(mixture, members, x, logits_TE[used][:, members]))
    bias = None if mixture.bias is None else mixture.bias[firsts]
    return replace(mixture, router=torch.stack(rows), bias=bias, experts=experts)


def _one_of_several(
    mixture: Mixture, members: list[int], x_NH: Tensor, weights_NG: Tensor, width: int
) -> Expert:
    parts = [mixture.experts[e] for e in members]
    if len(members) == 1 and width >= parts[0].width:
        return parts[0]
    total_N1 = weights_NG.sum(1, keepdim=True)
    read = torch.cat([mixture.activations(part, x_NH) for part in parts], 1) * total_N1
    wanted = torch.zeros_like(x_NH)
    for i, e in enumerate(members):
        wanted += mixture.outputs(e, x_NH) * weights_NG[:, i, None]
    gram = grams.Gram.zeros(read.shape[1], wanted.shape[1], read.device)
    gram.add(read, wanted)
    shares = weights_NG.sum(0) / total_N1.sum()
    downs = [part.down.weight.float().T * share for part, share in zip(parts, shares, strict=True)]
    kept, down_CH = grams.fitted_channels(gram, torch.cat(downs).double(), width)
    return stacked(parts).channels(kept).with_down(down_CH.T.float())


def _row(mixture: Mixture, members: list[int], x_NH: Tensor, logits_NG: Tensor) -> Tensor:
    own = mixture.router[members[0]].float()
    if len(members) == 1:
        return own
    gram = grams.Gram.zeros(x_NH.shape[1], 1, x_NH.device)
    bias_G = 0.0 if mixture.bias is None else (mixture.bias[members] - mixture.bias[members[0]]).float()
    gram.add(x_NH, (logits_NG + bias_G).logsumexp(1, keepdim=True))
    start = own[:, None].double()
    return grams.solve_ridge(gram.xx, gram.xy, start, relative=gram.ridge(ROW_RIDGE))[:, 0].float()


def narrow(mixture: Mixture, x_TH: Tensor, width: int) -> Mixture:
    """Return the mixture with `width` channels an expert, whose down projections make up for the removed channels.

    Fits may overwrite its down projections, which are copies. If no channel is removed, other weights are the mixture's own.
    """
    first = mixture.experts[0]
    if width >= first.width:
        return owning_downs(mixture)
    experts = [first.room(width) for _ in mixture.experts]
    for place, expert, routed in zip(experts, mixture.experts, mixture.route(x_TH), strict=True):
        read = mixture.activations(expert, x_TH[routed.tokens]) * routed.weights
        place.put(_narrower(expert, read, width))
    return replace(mixture, experts=experts)


def _narrower(expert: Expert, read_NW: Tensor, width: int) -> Expert:
    gram = grams.Gram.zeros(expert.width, 0, read_NW.device)
    gram.add(read_NW)
    order = grams.elimination_order(gram.xx, expert.down.weight.T)
    kept = order[len(order) - width :].sort().values
    return expert.channels(kept).with_down(grams.refit_down(gram, expert.down.weight.T, kept).T.float())


def smaller(
    mixture: Mixture,
    orders: Sequence[Sequence[int]],
    x_TH: Tensor,
    y_TH: Tensor,
    *,
    experts: int,
    top_k: int,
    width: int,
) -> Mixture:
    """Return a mixture of these sizes fitted to y: the best of those from `orders`, in which experts are removed."""
    if experts == len(mixture.experts):
        return overwrite(narrow(replace(mixture, top_k=top_k), x_TH, width), x_TH, y_TH)
    judges = unseen(x_TH)
    x, y = x_TH[~judges], y_TH[~judges]
    together = most_together(mixture, experts, width)
    ways: list[Callable[[], Mixture]] = []
    for kept in dict.fromkeys(tuple(sorted(order[-experts:])) for order in orders):
        ways.append(partial(narrow, replace(mixture.only(kept), top_k=top_k), x, width))
        if together > 1:
            ways.append(partial(_merged, mixture, groups_of(mixture, kept, x, together), x, width, top_k))
    if len(ways) == 1:
        return overwrite(ways[0](), x_TH, y_TH)

    def error(way: Callable[[], Mixture]) -> float:
        made = way()
        overwrite_downs(made, x, y)
        return made.error(x_TH[judges], y_TH[judges])

    return overwrite(min(ways, key=error)(), x_TH, y_TH)


def _merged(
    mixture: Mixture, groups: Sequence[Sequence[int]], x_TH: Tensor, width: int, top_k: int
) -> Mixture:
    return replace(merge(mixture, groups, x_TH, width), top_k=top_k)
