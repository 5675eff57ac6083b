"""Scores fitted to children that were measured whole.

A sum of replace-1-block KLs is right for one replacement. Of many it says too much or too little, and the second-order theory
(pairwise.py) does not tell which: it holds while changes of the logits are small and add up, and in real models they soon do
neither. What a second replacement does to a position that the first has spoilt already is little, so a position's KL grows with
the logarithm of what is done to it; and covariances, which add up in theory, mean less the larger changes are. So

    score of a child = a * sum_r mean_p [ G log(1 + kl_rp / G) ] + c * sum_{r < s} Cov(d_r, d_s)

where kl_rp is replacement r's own KL at position p, and a > 0, G (nats) and c in [0, 1] are those that predict measured
children best, in relative terms. Small changes give a = c = 1 and no bound G: the theory. It stays linear where c is 0.

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
"""Values of G that are tried, nats."""
BETTER = 0.9
"""A fit with more freedom has to leave at most this of the error, on children that it has not seen."""
FEWEST = 8
"""Children that a fit needs."""
Measured = Sequence[tuple[Rows, float]]
"""Children, and what was measured of each whole."""


def saturated(kl_RP: Floats, saturation: float) -> Floats:
    """mean_p [G log(1 + kl / G)], [R]; the mean itself where G has no bound."""
    kl_RP = np.maximum(kl_RP, 0.0)
    if math.isinf(saturation):
        return np.asarray(kl_RP.mean(axis=1))
    return np.asarray((saturation * np.log1p(kl_RP / saturation)).mean(axis=1))


@dataclass(frozen=True, eq=False)
class Form:
    """What scores and pairwise terms a fit makes."""

    singles_R: Floats
    pairs_RR: Floats
    fit: ScoreFit | None = None

    def of(self, rows: Rows) -> float:
        """What it says of a child."""
        return _sum(self.singles_R, rows) + _pairs(self.pairs_RR, rows)


def fitted(kl_RP: Floats, covariance_RR: Floats | None, children: Measured) -> Form:
    """The form that predicts the children best. Of few children, or none that differ from the parent: the theory itself."""
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
    """Relative errors on each child by the fit to all others, and the fit to all: its G and weights.

    What chooses G does not see the child either.
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
    """The largest G that is about as good as any."""
    tried = [
        (g, _weights(column[seen], None if pairs is None else pairs[seen])) for g, column in sums.items()
    ]
    left = [_left(sums[g][seen], None if pairs is None else pairs[seen], weights) for g, weights in tried]
    enough = min(left) / BETTER**2
    return next(found for found, error in zip(tried, left, strict=True) if error <= enough)


def _weights(sums: Floats, pairs: Floats | None) -> _Weights:
    """Least squares of `scale * sums + c * pairs - 1` with c in [0, 1]."""
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
