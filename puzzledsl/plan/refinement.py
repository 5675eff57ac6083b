"""Selection of the pieces to refine before training, and the tokens that refinement uses.

Least-squares initialisation fits only a piece's last map. Refinement (`pieces.initialise.gauss_newton`) then fits all its maps
on half of the calibration tokens, and finally the last map on all of them again.
"""

from __future__ import annotations

import math
from fractions import Fraction

from puzzledsl.alternatives.alternative import Alternative
from puzzledsl.ir.tables import BldJob

FITTED_SHARE = Fraction(1, 2)
"""Share of the calibration tokens that all maps are fitted to. The last calibration batch is held out to compare points."""
NUMBERS_A_WEIGHT = 4
"""Least ratio of fitted numbers to weights. Below it, the FFNs of SmolLM2 improve by 1 % or not at all."""
POINTS = 4
"""Number of points evaluated after the start. Two more would improve the fit by 1 % to 2 %."""
CURVED_SHARE = Fraction(3, 4)
"""Share of the fitted batches from which the curvature is estimated."""


def is_refined(job: BldJob) -> bool:
    """Return True for a piece initialised by least squares that more maps than its last can improve."""
    made = [a for a in (job.attention, job.ffn) if a is not None and a.trainable]
    pairs = zip(made, job.init.split("+"), strict=True)
    return any(a.refined and init == "least_squares" for a, init in pairs)


def is_frozen(alternative: Alternative) -> bool:
    """Return True if training does not change an alternative's weights: they are the parent's, or quantised, or none."""
    return alternative.dtype is not None or not alternative.trainable


def has_numbers_enough(weights: int, numbers: int) -> bool:
    """Return True if `numbers` fitted values (output channels x tokens) suffice to fit `weights` weights."""
    return NUMBERS_A_WEIGHT * weights <= numbers


def refinement_tokens(job: BldJob, hidden: int) -> tuple[int, int]:
    """Return the tokens of refinement: those with forward and backward pass, and forward only; (0, 0) if not refined."""
    fitted = int(FITTED_SHARE * job.calibration_tokens)
    weights = sum(math.prod(size) for size in job.shapes.values())
    if not is_refined(job) or not has_numbers_enough(weights, fitted * hidden):
        return 0, 0
    return int(fitted * (1 + POINTS + CURVED_SHARE)), job.calibration_tokens
