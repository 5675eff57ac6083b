"""Fit replace-1-block scores to children that were measured whole.

A sum of replace-1-block KLs is right for one replacement. For many it is too large or too small: a second replacement changes
little at a position that the first has already spoilt, so a position's KL saturates. Hence the form

    score of a child = a * sum_r mean_p [ G log(1 + kl_rp / G) ]

where kl_rp is replacement r's own KL at position p. The scale a > 0 and the saturation G (nats) minimise the relative errors on
measured children. The plain sum is a = 1 with infinite G.

Shapes: R replacements, P scored positions, N children.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from puzzledsl.ir.tables import ScoreFit
from puzzledsl.scoring.draw import Floats, Rows

SATURATIONS = (math.inf, 12.8, 6.4, 3.2, 1.6, 0.8, 0.4, 0.2)
"""Grid of the saturation G, in nats."""
BETTER = 0.9
"""A smaller saturation is chosen only if it reduces the error by this factor or more."""
LEAST = -0.5
"""Least KL in units of G; further below 0 the logarithm leaves its domain."""
FEWEST = 8
"""Least number of children for a fit."""
Measured = Sequence[tuple[Rows, float]]
"""(child, its measured KL in nats) pairs."""


def saturated(kl_RP: Floats, saturation: float) -> Floats:
    """Return mean_p [G log(1 + kl / G)], [R]; the plain mean for an infinite G.

    Rounding takes some KLs near 0 below it. They stay, because cutting them off would add what rounding takes to every mean.
    """
    if math.isinf(saturation):
        return np.asarray(kl_RP.mean(axis=1))
    return np.asarray((saturation * np.log1p(np.maximum(kl_RP / saturation, LEAST))).mean(axis=1))


@dataclass(frozen=True, eq=False)
class Form:
    """Predictor of a child's KL: the sum of its replacements' scores, in nats."""

    singles_R: Floats
    fit: ScoreFit | None = None

    def of(self, rows: Rows) -> float:
        """Return the predicted KL of a child."""
        return _sum(self.singles_R, rows)


def fitted(kl_RP: Floats, children: Measured) -> Form:
    """Return the form that predicts the children best, with leave-one-out errors.

    With fewer than FEWEST children of positive KL, return the plain sum (`fit` is None).
    """
    children = [(rows, kl) for rows, kl in children if kl > 0]
    if len(children) < FEWEST:
        return Form(saturated(kl_RP, math.inf))
    true = np.array([kl for _, kl in children])
    sums = {
        g: np.array([_sum(values, rows) for rows, _ in children]) / true
        for g in SATURATIONS
        for values in [saturated(kl_RP, g)]
    }
    errors = _unseen(sums)
    saturation, scale = _best(sums, np.ones(len(children), dtype=np.bool_))
    fit = ScoreFit(
        children=len(children),
        scale=scale,
        saturation_nats=None if math.isinf(saturation) else saturation,
        error_rms=math.sqrt(math.fsum(errors**2) / len(errors)),
        error_most=float(np.abs(errors).max()),
    )
    return Form(scale * saturated(kl_RP, saturation), fit)


def _unseen(sums: dict[float, Floats]) -> Floats:
    """Return the relative error on each child [N] of the fit to all others."""
    count = len(next(iter(sums.values())))
    errors = np.empty(count)
    for left_out in range(count):
        saturation, scale = _best(sums, np.arange(count) != left_out)
        errors[left_out] = scale * sums[saturation][left_out] - 1
    return errors


def _best(sums: dict[float, Floats], seen: Floats) -> tuple[float, float]:
    """Return the largest G whose RMS error is at most the least one / BETTER, with its scale."""
    tried = [(g, _scale(column[seen])) for g, column in sums.items()]
    left = [math.fsum((scale * sums[g][seen] - 1) ** 2) for g, scale in tried]
    enough = min(left) / BETTER**2
    return next(found for found, error in zip(tried, left, strict=True) if error <= enough)


def _scale(sums: Floats) -> float:
    """Minimise the squares of `scale * sums - 1` over the scale."""
    return math.fsum(sums) / math.fsum(sums * sums)


def _sum(values_R: Floats, rows: Rows) -> float:
    return math.fsum(values_R[list(rows)].tolist())
