"""Narrower experts: optimal brain surgeon on each expert's own tokens, weighted by the router.

Shapes: N tokens of an expert, H hidden, W channels.
"""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from puzzledsl.models.least_squares.channels import elimination_order, refit_down
from puzzledsl.models.least_squares.grams import Gram
from puzzledsl.models.mixtures.experts import Expert, Mixture, owning_downs


def narrow(mixture: Mixture, x_TH: Tensor, width: int) -> Mixture:
    """Return the mixture with `width` channels an expert, whose down projections make up for the others.

    Its down projections are its own; if no channel goes, it shares the other weights.
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
    gram = Gram.zeros(expert.width, 0, read_NW.device)
    gram.add(read_NW)
    order = elimination_order(gram.xx, expert.down.weight.T)
    kept = order[len(order) - width :].sort().values
    return expert.channels(kept).with_down(refit_down(gram, expert.down.weight.T, kept).T.float())
