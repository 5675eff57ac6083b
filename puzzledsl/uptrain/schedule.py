"""The learning rate of a step."""

from __future__ import annotations

import math
from typing import assert_never

from puzzledsl.ir.nodes import Schedule


def learning_rate(schedule: Schedule, step: int, steps: int) -> float:
    """The rate of step 0 <= `step` < `steps`: linear warm-up to the peak, then a cosine to zero, or constant."""
    warm_up = round(schedule.warmup * steps)
    if step < warm_up:
        return schedule.peak * (step + 1) / warm_up
    match schedule.kind:
        case "constant":
            return schedule.peak
        case "cosine":
            done = (step - warm_up) / max(1, steps - warm_up)
            return schedule.peak * 0.5 * (1 + math.cos(math.pi * done))
        case _:
            assert_never(schedule.kind)
