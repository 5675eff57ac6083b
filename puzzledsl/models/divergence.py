"""KL divergence between two models' next-token distributions, in nats.

Shapes: N positions, C positions of a chunk, H hidden, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from puzzledsl.plan.memory.stage_plan import tiles

Logits = Callable[[Tensor], Tensor]
"""Logits [C, V] of final hidden states [C, H]."""


def kl_divergence(log_p_CV: Tensor, log_q_CV: Tensor) -> Tensor:
    """Return KL(p || q) of each row, [C], from float32 log-probabilities."""
    return F.kl_div(log_q_CV, log_p_CV, log_target=True, reduction="none").sum(-1)


@torch.no_grad()
def summed_kl(
    parent_NH: Tensor,
    child_NH: Tensor,
    parent_logits: Logits,
    child_logits: Logits,
    *,
    chunk: int | None = None,
) -> float:
    """Return the sum over positions of KL(parent || child), from final hidden states. Rows are float32, their sum float64.

    The logits of `chunk` positions are in memory at once; by default as many as are fast on the device.
    """
    chunk = chunk or tiles(child_NH.device.type).divergence_positions
    total = torch.zeros((), dtype=torch.float64, device=child_NH.device)
    for parent_CH, child_CH in zip(torch.split(parent_NH, chunk), torch.split(child_NH, chunk), strict=True):
        log_p_CV = parent_logits(parent_CH).float().log_softmax(-1)
        log_q_CV = child_logits(child_CH).float().log_softmax(-1)
        total += kl_divergence(log_p_CV, log_q_CV).sum(dtype=torch.float64)
    return float(total)
