"""Intervals cover what they promise to cover."""

from __future__ import annotations

import math

import numpy as np
import pytest

from puzzledsl.evaluate.compare import compare, student
from puzzledsl.ir.tables import Interval

EXACT = {
    1: 12.7062,
    2: 4.3027,
    3: 3.1824,
    4: 2.7764,
    5: 2.5706,
    7: 2.3646,
    10: 2.2281,
    30: 2.0423,
    199: 1.9720,
}


def contains(interval: Interval | None, value: float) -> bool:
    assert interval is not None and interval.low is not None and interval.high is not None
    return interval.low <= value <= interval.high


@pytest.mark.parametrize(("freedom", "quantile"), EXACT.items())
def test_students_quantile_is_the_tables(freedom, quantile):
    assert student(freedom) == pytest.approx(quantile, rel=1e-2)


def test_perplexity_intervals_cover_the_truth():
    """Cross-entropies of eight blocks that differ much from each other, and less from model to model."""
    dice, covered = np.random.default_rng(1), 0
    for _ in range(1000):
        theirs = dice.normal(3, 0.4, 8)
        ours = theirs + 0.2 + dice.normal(0, 0.05, 8)
        ratio = compare("c", {"perplexity": ours}, {"perplexity": theirs}).perplexity_ratio
        assert ratio is not None
        assert ratio.value == pytest.approx(math.exp(ours.mean() - theirs.mean()))
        covered += contains(ratio, math.exp(0.2))
    assert 925 <= covered <= 975


def test_a_child_that_is_its_parent_differs_by_nothing():
    samples = {"perplexity": tuple(3 + np.random.default_rng(3).random(30))}
    assert compare("c", samples, samples).perplexity_ratio == Interval(value=1, low=1, high=1)
