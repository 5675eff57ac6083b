"""Learning rates."""

from __future__ import annotations

import math

from puzzledsl.ir.nodes import Schedule


def learning_rate(schedule: Schedule, step: int, steps: int) -> float:
    """The rate of step `step` (from 0) of `steps`: a linear rise over the warm-up, then constant, or a cosine down to 0.

    No step has rate 0, so no step is wasted.
    """
    warmup = math.ceil(schedule.warmup * steps)
    if step < warmup:
        return schedule.peak * (step + 1) / (warmup + 1)
    if schedule.kind == "constant":
        return schedule.peak
    progress = (step - warmup) / max(1, steps - warmup)
    return schedule.peak * 0.5 * (1 + math.cos(math.pi * progress))
