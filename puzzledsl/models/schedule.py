"""Learning rates: linear warm-up, then constant or a cosine (Loshchilov & Hutter 2017, without restarts)."""

from __future__ import annotations

import math
from typing import assert_never

from puzzledsl.ir.nodes import Schedule


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
