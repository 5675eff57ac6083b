"""Which pieces are refined before they are trained, and what that takes.

Least squares starts a piece on its last map alone; refinement fits all its maps, by passes over half of the calibration tokens
(`surgery.gauss_newton`), and its last one to all of them again.
"""

from __future__ import annotations

import math
from fractions import Fraction

from puzzledsl.ir.tables import BldJob
from puzzledsl.plan.shapes import is_trainable

FITTED_SHARE = Fraction(1, 2)
"""Of the calibration tokens, for all maps; the last batch of calibration judges."""
NUMBERS_A_WEIGHT = 4
"""That there must be to fit to. With fewer, SmolLM2's FFNs gain a hundredth or nothing."""
POINTS = 4
"""Tried after the start. Two more bring a hundredth or two."""
CURVED_SHARE = Fraction(3, 4)
"""Of the fitted batches, the share that tells the curvature."""


def is_refined(job: BldJob) -> bool:
    """True for a piece with fewer heads or channels that least squares starts. Linear sub-blocks are optima already."""
    made = [a for a in (job.attention, job.ffn) if a is not None and is_trainable(a)]
    pairs = zip(made, job.init.split("+"), strict=True)
    return any(a.kind in ("gqa", "mlp") and init == "least_squares" for a, init in pairs)


def has_numbers_enough(weights: int, numbers: int) -> bool:
    """Whether so many weights may be fitted to so many numbers, an output's channel at a token each."""
    return NUMBERS_A_WEIGHT * weights <= numbers


def refinement_tokens(job: BldJob, hidden: int) -> tuple[int, int]:
    """Tokens that pass a piece there and back, and there only; none where it is not refined."""
    fitted = int(FITTED_SHARE * job.calibration_tokens)
    weights = sum(math.prod(size) for size in job.shapes.values())
    if not is_refined(job) or not has_numbers_enough(weights, fitted * hidden):
        return 0, 0
    return int(fitted * (1 + POINTS + CURVED_SHARE)), job.calibration_tokens
