"""KL divergence of logits, and the learning rate of each step, for pieces and for uptraining.

Rates: linear warm-up, then constant or a cosine (Loshchilov & Hutter 2017, without restarts).

Shapes: N positions, C positions of a chunk, H hidden, V vocabulary.
"""

import math
from collections.abc import Callable
from typing import assert_never

import torch
import torch.nn.functional as F
from torch import Tensor

from puzzledsl.ir.nodes import Schedule
from puzzledsl.plan.memory.stage_plan import tiles

Logits = Callable[[Tensor], Tensor]  # logits [C, V] of final hidden states [C, H]


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
    """Return KL(parent || child) summed over positions. `chunk`: positions with logits in memory at once; None: by device."""
    chunk = chunk or tiles(child_NH.device.type).divergence_positions
    total = torch.zeros((), dtype=torch.float64, device=child_NH.device)
    for parent_CH, child_CH in zip(torch.split(parent_NH, chunk), torch.split(child_NH, chunk), strict=True):
        log_p_CV = parent_logits(parent_CH).float().log_softmax(-1)
        log_q_CV = child_logits(child_CH).float().log_softmax(-1)
        total += kl_divergence(log_p_CV, log_q_CV).sum(dtype=torch.float64)
    return float(total)


def learning_rate(schedule: Schedule, step: int, steps: int) -> float:
    """Return the learning rate of step 0 <= `step` < `steps`. It is never 0, so every step changes the weights."""
    warmup = warmup_steps(schedule, steps)
    if step < warmup:
        return schedule.peak * (step + 1) / (warmup + 1)
    match schedule.kind:
        case "constant":
            return schedule.peak
        case "cosine":
            done = (step - warmup) / max(1, steps - warmup)
            return schedule.peak * 0.5 * (1 + math.cos(math.pi * done))
        case _:
            assert_never(schedule.kind)


def warmup_steps(schedule: Schedule, steps: int) -> int:
    """Return the number of warm-up steps below the peak, rounded up so that a short run has at least one if any are asked for."""
    return min(math.ceil(schedule.warmup * steps), steps)
