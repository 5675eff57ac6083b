"""Which experts of a mixture to keep.

`frequency` and `reap` (router-weighted expert activation pruning, arXiv 2510.13999) rank experts; `prune` keeps the highest ones,
and the channels that contribute most, with the parent's weights. `damage_order` measures: it drops the expert without which the
mixture's outputs change least, once the router has chosen others for its tokens, and repeats.

Shapes: T tokens, N tokens of an expert, H hidden, W channels, E experts, R columns of a sketch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from puzzledsl.models.least_squares.channels import contribution_order
from puzzledsl.models.mixtures.experts import Mixture

MEASURED_TOKENS = 4096
"""Tokens on which `damage_order` measures."""
SKETCHED = 64
"""Columns of the random projection in which outputs are compared; sums over thousands of tokens keep their order."""


def frequency(mixture: Mixture, x_TH: Tensor) -> list[float]:
    """Return the number of each expert's tokens."""
    return [float(len(routed.tokens)) for routed in mixture.route(x_TH)]


def reap(mixture: Mixture, x_TH: Tensor) -> list[float]:
    """Return the mean over an expert's tokens of the router's weight times the norm of the expert's output."""
    return [float(output.norm(dim=1).mean()) if len(output) else 0.0 for _, output in mixture.parts(x_TH)]


def highest(saliency: list[float], count: int) -> list[int]:
    """Return the experts of the highest saliency, ascending."""
    order = sorted(range(len(saliency)), key=lambda e: (-saliency[e], e))
    return sorted(order[:count])


SALIENCIES: Mapping[str, Callable[[Mixture, Tensor], list[float]]] = {"frequency": frequency, "reap": reap}
"""Rankings by the names that `init { moe = … }` takes."""


def prune(
    mixture: Mixture,
    x_TH: Tensor,
    saliency: Callable[[Mixture, Tensor], list[float]],
    *,
    experts: int,
    top_k: int,
    width: int,
) -> Mixture:
    """Return the mixture of the experts of the highest saliency and of their channels that contribute most; nothing is fitted."""
    fewer = replace(mixture.only(highest(saliency(mixture, x_TH), experts)), top_k=top_k)
    if width >= fewer.experts[0].width:
        return fewer
    narrow = []
    for expert, routed in zip(fewer.experts, fewer.route(x_TH), strict=True):
        read_NW = fewer.activations(expert, x_TH[routed.tokens]) * routed.weights
        order = contribution_order(read_NW.abs().sum(0), expert.down.weight.T)
        narrow.append(expert.channels(order[len(order) - width :].sort().values))
    return replace(fewer, experts=narrow)


def damage_order(mixture: Mixture, x_TH: Tensor, y_TH: Tensor) -> list[int]:
    """Return the experts in the order in which they go, least missed first; one order serves every count."""
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


@dataclass(frozen=True, slots=True)
class _Measured:
    """Logits of all experts, sketches of all their outputs [E, T, R] and of the outputs wanted [T, R]."""

    mixture: Mixture
    logits_TE: Tensor
    outputs_ETR: Tensor
    wanted_TR: Tensor

    def least_missed(self, alive: list[int]) -> int:
        """Return the expert whose absence adds least to the squared error: only its own tokens choose others."""
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
