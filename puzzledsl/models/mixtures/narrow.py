"""Narrower experts: optimal brain surgeon on each expert's own tokens, weighted by the router.

Shapes: N tokens of an expert, H hidden, W channels.
"""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from puzzledsl.models.least_squares.channels import elimination_order, refit_down
from puzzledsl.models.least_squares.grams import Gram
from puzzledsl.models.mixtures.experts import Expert, Mixture


def narrow(mixture: Mixture, x_TH: Tensor, width: int) -> Mixture:
    """Return the mixture with `width` channels an expert, whose down projections make up for the others."""
    experts = [expert.room(width) for expert in mixture.experts]
    for e, (routed, expert) in enumerate(zip(mixture.route(x_TH), mixture.experts, strict=True)):
        read = mixture.activations(e, x_TH[routed.tokens]) * routed.weights
        experts[e].put(_narrower(expert, read, width))
    return replace(mixture, experts=experts)


def _narrower(expert: Expert, read_NW: Tensor, width: int) -> Expert:
    if width >= expert.width:
        return expert
    gram = Gram.zeros(expert.width, 0, read_NW.device)
    gram.add(read_NW)
    order = elimination_order(gram.xx, expert.down.weight.T)
    kept = order[len(order) - width :].sort().values
    return expert.channels(kept).with_down(refit_down(gram, expert.down.weight.T, kept).T.float())
