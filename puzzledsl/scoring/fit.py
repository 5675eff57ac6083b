"""Fit replace-1-block scores to children that were measured whole.

A sum of replace-1-block KLs is right for one replacement. For many it is too large or too small, and the second-order theory
(pairwise.py) does not predict which: it assumes that changes of the logits are small and add up, and in real models neither
holds. A second replacement changes little at a position that the first has already spoilt, so a position's KL saturates; and
covariances count less the larger the changes are. Hence the form

    score of a child = a * sum_r mean_p [ G log(1 + kl_rp / G) ] + c * sum_{r < s} Cov(d_r, d_s)

where kl_rp is replacement r's own KL at position p. The scale a > 0, the saturation G (nats) and the weight c in [0, 1] minimise
the relative errors on measured children. The theory is a = c = 1 with infinite G. With c = 0 the score is linear in replacements.

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
"""A more flexible form is chosen only if it reduces the error by this factor or more; pairwise terms are judged by
leave-one-out errors."""
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
    """Predictor of a child's KL: scores of single replacements and pairwise terms (upper triangle), in nats."""

    singles_R: Floats
    pairs_RR: Floats
    fit: ScoreFit | None = None

    def of(self, rows: Rows) -> float:
        """Return the predicted KL of a child."""
        return _sum(self.singles_R, rows) + _pairs(self.pairs_RR, rows)


def fitted(kl_RP: Floats, covariance_RR: Floats | None, children: Measured) -> Form:
    """Return the form that predicts the children best, with leave-one-out errors.

    With fewer than FEWEST children of positive KL, return the second-order theory (`fit` is None).
    """
    size = len(kl_RP)
    theory = Form(
        saturated(kl_RP, math.inf), np.zeros((size, size)) if covariance_RR is None else covariance_RR
    )
    children = [(rows, kl) for rows, kl in children if kl > 0]
    if len(children) < FEWEST:
        return theory
    true = np.array([kl for _, kl in children])
    sums = {
        g: np.array([_sum(values, rows) for rows, _ in children]) / true
        for g in SATURATIONS
        for values in [saturated(kl_RP, g)]
    }
    pairs = (
        None
        if covariance_RR is None
        else np.array([_pairs(covariance_RR, rows) for rows, _ in children]) / true
    )
    error, best, without = _unseen(sums, None)
    if pairs is not None:
        paired = _unseen(sums, pairs)
        if _rms(paired[0]) < BETTER * _rms(error):
            error, best, without = paired
    fit = ScoreFit(
        children=len(children),
        scale=without.scale,
        saturation_nats=None if math.isinf(best) else best,
        pairs=without.pairs,
        error_rms=_rms(error),
        error_most=float(np.abs(error).max()),
    )
    singles = fit.scale * saturated(kl_RP, best)
    return Form(singles, np.zeros((size, size)) if covariance_RR is None else fit.pairs * covariance_RR, fit)


@dataclass(frozen=True, slots=True)
class _Weights:
    scale: float
    pairs: float


def _unseen(sums: dict[float, Floats], pairs: Floats | None) -> tuple[Floats, float, _Weights]:
    """Return leave-one-out relative errors [N], and G and the weights of the fit to all children.

    G is chosen without the left-out child, too.
    """
    count = len(next(iter(sums.values())))
    errors = np.empty(count)
    for left_out in range(count):
        seen = np.arange(count) != left_out
        saturation, weights = _best(sums, pairs, seen)
        second = 0.0 if pairs is None else weights.pairs * pairs[left_out]
        errors[left_out] = weights.scale * sums[saturation][left_out] + second - 1
    saturation, weights = _best(sums, pairs, np.ones(count, dtype=np.bool_))
    return errors, saturation, weights


def _best(sums: dict[float, Floats], pairs: Floats | None, seen: Floats) -> tuple[float, _Weights]:
    """Return the largest G whose RMS error is at most the least one / BETTER, with its weights."""
    tried = [
        (g, _weights(column[seen], None if pairs is None else pairs[seen])) for g, column in sums.items()
    ]
    left = [_left(sums[g][seen], None if pairs is None else pairs[seen], weights) for g, weights in tried]
    enough = min(left) / BETTER**2
    return next(found for found, error in zip(tried, left, strict=True) if error <= enough)


def _weights(sums: Floats, pairs: Floats | None) -> _Weights:
    """Minimise the squares of `scale * sums + c * pairs - 1` over the scale and c in [0, 1]."""
    if pairs is not None:
        aa, bb, ab = math.fsum(sums * sums), math.fsum(pairs * pairs), math.fsum(sums * pairs)
        a, b, det = math.fsum(sums), math.fsum(pairs), aa * bb - ab * ab
        c = min(1.0, max(0.0, (aa * b - ab * a) / det)) if det > 1e-12 * aa * bb else 0.0
        if c > 0:
            return _Weights(math.fsum(sums * (1 - c * pairs)) / aa, c)
    return _Weights(math.fsum(sums) / math.fsum(sums * sums), 0.0)


def _left(sums: Floats, pairs: Floats | None, weights: _Weights) -> float:
    second = 0.0 if pairs is None else weights.pairs * pairs
    return math.fsum((weights.scale * sums + second - 1) ** 2)


def _rms(errors: Floats) -> float:
    return math.sqrt(math.fsum(errors**2) / len(errors))


def _sum(values_R: Floats, rows: Rows) -> float:
    return math.fsum(values_R[list(rows)].tolist())


def _pairs(pairs_RR: Floats, rows: Rows) -> float:
    return math.fsum(pairs_RR[np.ix_(rows, rows)][np.triu_indices(len(rows), 1)].tolist())
