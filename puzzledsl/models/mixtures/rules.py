"""The rules of a mixture as transformers' modules apply them: the activation of experts, and the choice of experts.

Shapes: T tokens, N tokens of an expert, E experts, K experts of a token, W channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from puzzledsl.models.transformers_private import apply_gate


def router_of(block: nn.Module) -> Any:
    """Return the router of a mixture's module."""
    return getattr(block, "gate", None) or cast(Any, block).router


@dataclass(frozen=True, slots=True)
class ModuleRules:
    """Rules of a mixture's module. Only what has no weights is used of it."""

    block: Any

    def activate(self, gate_NW: Tensor | None, up_NW: Tensor) -> Tensor:
        """Apply the module's own activation."""
        experts = self.block.experts
        if gate_NW is None:
            return cast(Tensor, experts.act_fn(up_NW))
        both = (gate_NW, up_NW)
        joined = torch.cat(both, -1) if experts.is_concatenated else torch.stack(both, -1).flatten(-2)
        return apply_gate(experts, joined)

    def route(self, logits_TE: Tensor, bias_E: Tensor | None, top_k: int) -> tuple[Tensor, Tensor]:
        """Choose experts as the module's router does: by softmax, or by sigmoid with a bias that only ranks."""
        router = router_of(self.block)
        if hasattr(router, "routed_scaling_factor"):
            scores_TE = logits_TE.sigmoid()
            ranked = scores_TE if bias_E is None else scores_TE + bias_E.float()
            numbers_TK = torch.topk(ranked, top_k, dim=-1, sorted=False).indices
            weights_TK = scores_TE.gather(1, numbers_TK)
            if router.norm_topk_prob:
                weights_TK = weights_TK / (weights_TK.sum(-1, keepdim=True) + 1e-20)
            return weights_TK * router.routed_scaling_factor, numbers_TK
        if bias_E is not None:
            logits_TE = logits_TE + bias_E.float()
        weights_TK, numbers_TK = torch.topk(logits_TE.softmax(-1), top_k, dim=-1)
        if getattr(router, "norm_topk_prob", True):
            weights_TK = weights_TK / weights_TK.sum(-1, keepdim=True)
        return weights_TK, numbers_TK
