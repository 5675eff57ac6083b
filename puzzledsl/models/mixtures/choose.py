"""Which experts of a mixture to keep.

`frequency` and `reap` (router-weighted expert activation pruning, arXiv 2510.13999) rank experts. `least_damage` measures: it
drops the expert without which the mixture's outputs change least, once the router has chosen others for its tokens, and repeats.

Shapes: T tokens, H hidden, E experts, R columns of a sketch.
"""

from __future__ import annotations

import torch
from torch import Tensor

from puzzledsl.models.mixtures.experts import Mixture

MEASURED_TOKENS = 4096
"""Tokens on which `least_damage` measures."""
SKETCHED = 64
"""Columns of the random projection in which outputs are compared; sums over thousands of tokens keep their order."""


def frequency(mixture: Mixture, x_TH: Tensor) -> list[float]:
    """Return the number of each expert's tokens."""
    return [float(len(routed.tokens)) for routed in mixture.route(x_TH)]


def reap(mixture: Mixture, x_TH: Tensor) -> list[float]:
    """Return the mean over an expert's tokens of the router's weight times the norm of the expert's output."""
    return [
        float(output.norm(dim=1).mean()) if len(output) else 0.0 for _, output in mixture.parts(x_TH)
    ]


def highest(saliency: list[float], count: int) -> list[int]:
    """Return the experts of the highest saliency, ascending."""
    order = sorted(range(len(saliency)), key=lambda e: (-saliency[e], e))
    return sorted(order[:count])


def least_damage(mixture: Mixture, x_TH: Tensor, y_TH: Tensor, count: int) -> list[int]:
    """Return the `count` experts that are left when those that matter least to y have gone one by one."""
    x, y = x_TH[:MEASURED_TOKENS], y_TH[:MEASURED_TOKENS]
    sketch = _sketch(x.shape[1], x.device)
    outputs_ETR = torch.stack([mixture.outputs(e, x) @ sketch for e in range(len(mixture.experts))])
    target_TR, logits_TE = y @ sketch, mixture.logits(x)
    alive = list(range(len(mixture.experts)))

    def damage(gone: int) -> float:
        kept = [e for e in alive if e != gone]
        bias = None if mixture.bias is None else mixture.bias[kept]
        weights_TK, places_TK = mixture.rules.route(logits_TE[:, kept], bias, min(mixture.top_k, len(kept)))
        numbers_TK = torch.tensor(kept, device=x.device)[places_TK]
        chosen = outputs_ETR[numbers_TK, torch.arange(len(x), device=x.device)[:, None]]
        made_TR = (chosen * weights_TK[..., None]).sum(1)
        return float((made_TR - target_TR).square().sum(dtype=torch.float64))

    while len(alive) > count:
        alive.remove(min(alive, key=damage))
    return alive


def _sketch(hidden: int, device: torch.device) -> Tensor:
    if hidden <= SKETCHED:
        return torch.eye(hidden, device=device)
    generator = torch.Generator().manual_seed(0)
    return (torch.randn(hidden, SKETCHED, generator=generator) / SKETCHED**0.5).to(device)
