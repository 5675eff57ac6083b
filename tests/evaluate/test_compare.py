"""Intervals cover what they promise to cover, and pairing makes them narrow."""

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


def answers(dice, items: int, parent: float, kept: float, gained: float) -> tuple[np.ndarray, np.ndarray]:
    """Right (1) and wrong (0) of a child that keeps this share of the parent's right answers, and gains some of its wrong."""
    theirs = dice.random(items) < parent
    ours = np.where(theirs, dice.random(items) < kept, dice.random(items) < gained)
    return ours.astype(float), theirs.astype(float)


def test_intervals_cover_the_truth_nineteen_times_in_twenty():
    dice, parent, kept, gained = np.random.default_rng(0), 0.6, 0.9, 0.1
    child = parent * kept + (1 - parent) * gained
    truths = {"difference": child - parent, "ratio": child / parent, "preserved": child / parent}
    covered = dict.fromkeys(truths, 0)
    for _ in range(1000):
        ours, theirs = answers(dice, 200, parent, kept, gained)
        found = compare("c", {"quiz": ours}, {"quiz": theirs})
        intervals = {
            "difference": found.paired["quiz"].difference,
            "ratio": found.paired["quiz"].ratio,
            "preserved": found.accuracy_preserved,
        }
        for name, truth in truths.items():
            covered[name] += contains(intervals[name], truth)
    assert all(925 <= count <= 975 for count in covered.values()), covered


def test_perplexity_intervals_cover_the_truth():
    """Cross-entropies of eight blocks that differ much from each other, and less from model to model."""
    dice, covered = np.random.default_rng(1), 0
    for _ in range(1000):
        theirs = dice.normal(3, 0.4, 8)
        ours = theirs + 0.2 + dice.normal(0, 0.05, 8)
        paired = compare("c", {"perplexity": ours}, {"perplexity": theirs}).paired["perplexity"]
        assert paired.ratio is not None
        assert paired.ratio.value == pytest.approx(math.exp(ours.mean() - theirs.mean()))
        assert paired.difference.value == pytest.approx(math.exp(ours.mean()) - math.exp(theirs.mean()))
        covered += contains(paired.ratio, math.exp(0.2))
    assert 925 <= covered <= 975


def test_pairing_is_narrower_than_two_independent_figures():
    ours, theirs = answers(np.random.default_rng(2), 400, 0.5, 0.95, 0.05)
    interval = compare("c", {"quiz": ours}, {"quiz": theirs}).paired["quiz"].difference
    apart = 1.96 * math.sqrt((ours.var() + theirs.var()) / 400)
    assert interval.high is not None and interval.high - interval.value < 0.6 * apart


def test_a_child_that_is_its_parent_differs_by_nothing():
    ours, _ = answers(np.random.default_rng(3), 30, 0.5, 1, 0)
    samples = {"quiz": tuple(ours), "perplexity": tuple(3 + ours)}
    found = compare("c", samples, samples)
    for paired in found.paired.values():
        assert paired.difference == Interval(value=0, low=0, high=0)
        assert paired.ratio == Interval(value=1, low=1, high=1)
    assert found.accuracy_preserved == Interval(value=1, low=1, high=1)
