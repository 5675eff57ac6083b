"""Estimates with 95 % intervals from paired samples, and the verdict on a claim about them.

Shapes: S seeds, N samples (runs of token positions, or items of a task) that all children are judged on.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
from scipy.stats import t as student  # type: ignore[import-untyped]

CONFIDENCE = 0.95
RESAMPLES = 2000
BISECTIONS = 50
DIGITS = 6
"""Significant digits that are kept: the last bits of a product depend on the processor."""

Verdict = Literal["agree", "disagree", "cannot tell"]


def rounded(value: float) -> float:
    """The value with DIGITS significant digits."""
    return float(f"{value:.{DIGITS}g}")


@dataclass(frozen=True)
class Estimate:
    """A figure and the ends of its 95 % interval. Where nothing was sampled, both ends are the figure."""

    value: float
    low: float
    high: float

    def as_json(self) -> dict[str, float]:
        """The three numbers, rounded."""
        return {name: rounded(value) for name, value in asdict(self).items()}

    @property
    def sign(self) -> int:
        """1 or -1 where the interval lies on one side of 0; else 0."""
        return (self.low > 0) - (self.high < 0)


def exact(value: float) -> Estimate:
    """A figure without a sampling error: a cost, a proven optimum, a number of parameters."""
    return Estimate(value, value, value)


def mean(samples_SN: Sequence[Sequence[float]]) -> Estimate:
    """The mean over seeds and samples.

    Its variance is that of the samples (of their mean over seeds) plus, with several seeds, that of the seeds' means; degrees of
    freedom by Welch and Satterthwaite. The same samples are in every row, so that the difference of two children is the mean of
    their differences.
    """
    values_SN = np.atleast_2d(np.asarray(samples_SN, dtype=np.float64))
    seeds, count = values_SN.shape
    parts = [(values_SN.mean(0).var(ddof=1) / count, count - 1)] if count > 1 else []
    if seeds > 1:
        parts.append((values_SN.mean(1).var(ddof=1) / seeds, seeds - 1))
    variance, value = sum(part for part, _ in parts), float(values_SN.mean())
    if variance == 0:
        return exact(value)
    freedom = variance**2 / sum(part**2 / freedom for part, freedom in parts)
    half = float(student.ppf((1 + CONFIDENCE) / 2, freedom)) * math.sqrt(variance)
    return Estimate(value, value - half, value + half)


def difference(first_SN: Sequence[Sequence[float]], second_SN: Sequence[Sequence[float]]) -> Estimate:
    """The mean of `first - second`, paired by sample, and by seed where both have as many."""
    first, second = (np.atleast_2d(np.asarray(rows, dtype=np.float64)) for rows in (first_SN, second_SN))
    if first.shape[0] != second.shape[0]:
        first, second = (
            np.broadcast_to(rows, (max(len(first), len(second)), rows.shape[1])) if len(rows) == 1 else rows
            for rows in (first, second)
        )
    return mean((first - second).tolist())


def apart(first: Estimate, second: Estimate) -> Estimate:
    """`first - second` of two estimates from samples that have nothing to do with each other."""
    value = first.value - second.value
    low = math.hypot(first.value - first.low, second.high - second.value)
    high = math.hypot(first.high - first.value, second.value - second.low)
    return Estimate(value, value - low, value + high)


def ratio(above_SN: Sequence[Sequence[float]], below_SN: Sequence[Sequence[float]]) -> Estimate:
    """The ratio of two means, paired as in `difference`; its interval is Fieller's (1954).

    These are the ratios r for which the mean of `above - r * below` may be 0. ValueError: the mean of `below` may be 0 itself.
    """
    above, below = (np.atleast_2d(np.asarray(rows, dtype=np.float64)) for rows in (above_SN, below_SN))
    if mean(below.tolist()).low <= 0:
        raise ValueError("a ratio to something that cannot be told from 0")
    value = float(above.mean() / below.mean())

    def end(side: int) -> float:
        def possible(r: float) -> bool:
            return difference(above.tolist(), (r * below).tolist()).sign != -side

        step = max(abs(value), 1.0)
        while possible(value + side * step):
            step *= 2
        near, far = value, value + side * step
        for _ in range(BISECTIONS):
            middle = (near + far) / 2
            near, far = (middle, far) if possible(middle) else (near, middle)
        return near

    return Estimate(value, end(-1), end(1))


def bootstrapped_ratio(above_N: Sequence[float], below_N: Sequence[float]) -> Estimate:
    """The ratio of two sums over the same samples, its interval by a paired bootstrap of 2,000 resamples, seed 0."""
    above, below = np.asarray(above_N, dtype=np.float64), np.asarray(below_N, dtype=np.float64)
    draws = np.random.default_rng(0).integers(len(above), size=(RESAMPLES, len(above)))
    ratios = above[draws].sum(1) / below[draws].sum(1)
    low, high = np.quantile(ratios, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Estimate(float(above.sum() / below.sum()), float(low), float(high))


def verdict(gain: Estimate) -> Verdict:
    """Agree where what the paper found better is better here, with 95 % confidence."""
    return "agree" if gain.sign > 0 else "disagree" if gain.sign < 0 else "cannot tell"
