"""A mixture of experts as one linear map of what all its experts' down projections read, so that healing fits them together.

With fixed routing a mixture is linear in its down projections: y = [D_1 … D_E] [g_1 a_1; …; g_E a_E], where g_e is 0 for experts
that a token does not use.

Shapes: B sequences, S positions, H hidden, E experts, W channels of an expert, P = E W.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from puzzledsl.models.families.slots import weights_of
from puzzledsl.models.mixtures.experts import Mixture
from puzzledsl.models.mixtures.rules import ModuleRules, router_of

MOST_CHANNELS = 8192
"""Mixtures of more channels over all experts are not fitted: the equations of all their channels would not fit into memory."""


class StackedExperts(nn.Module):
    """A mixture's module without its down projections. Their weights are the columns of `down`, expert by expert."""

    def __init__(self, mixture: Mixture) -> None:
        super().__init__()
        self._mixture = mixture
        weight_HP = torch.cat([expert.down.weight for expert in mixture.experts], 1)
        hidden, stacked = weight_HP.shape
        self.down = nn.Linear(stacked, hidden, bias=False, device="meta", dtype=weight_HP.dtype)
        self.down.weight = nn.Parameter(weight_HP, requires_grad=False)

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Return the weighted activations of all experts, [B, S, H] -> [B, S, P]; zero for experts that a token does not use."""
        x_TH = hidden_states.flatten(0, -2).float()
        read_TP = x_TH.new_zeros(len(x_TH), self.down.in_features)
        start = 0
        for e, routed in enumerate(self._mixture.route(x_TH)):
            end = start + self._mixture.experts[e].width
            activations = self._mixture.activations(e, x_TH[routed.tokens])
            read_TP[routed.tokens, start:end] = activations * routed.weights
            start = end
        return read_TP.view(*hidden_states.shape[:-1], -1).to(hidden_states.dtype)

    def downs(self) -> Iterator[tuple[str, Tensor]]:
        """Yield name and weight [H, W] of each down projection, as views of `down`."""
        widths = [expert.width for expert in self._mixture.experts]
        for e, weight_HW in enumerate(torch.split(self.down.weight, widths, 1)):
            yield f"experts.{e}.down_proj.weight", weight_HW


def stacked_experts(module: nn.Module) -> StackedExperts | None:
    """Return a mixture's module split before its down projections; None for other modules, and for what is not fitted.

    Mixtures with shared experts, with biases or with more than MOST_CHANNELS channels are not fitted.
    """
    if not isinstance(getattr(module, "experts", None), nn.Module):
        return None
    weights = weights_of(module)
    if any(name.startswith("shared_expert") or name.endswith(".bias") for name in weights):
        return None
    mixture = Mixture.of(weights, router_of(module).top_k, ModuleRules(module))
    small = sum(expert.width for expert in mixture.experts) <= MOST_CHANNELS
    return StackedExperts(mixture) if small else None
