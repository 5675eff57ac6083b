"""Laws of ratios with their intervals."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import t as student  # type: ignore[import-untyped]

from benchmarks.paper.estimate import ratio


def drawn(seed: int, count: int = 40) -> tuple[list[float], list[float]]:
    """Paired samples whose means are far from 0."""
    dice = np.random.default_rng(seed)
    below = 1 + dice.random(count)
    return (0.7 * below + 0.3 * dice.random(count)).tolist(), below.tolist()


@given(st.integers(0, 10_000))
def test_the_interval_is_fiellers(seed: int) -> None:
    """Its ends are the roots of (a - r b)^2 = t^2 var(a - r b), a and b the means."""
    above, below = drawn(seed)
    covariance = np.cov(above, below) / len(above)
    square = float(student.ppf(0.975, len(above) - 1)) ** 2
    a, b = np.mean(above), np.mean(below)
    roots = np.roots(
        [
            b * b - square * covariance[1, 1],
            -2 * (a * b - square * covariance[0, 1]),
            a * a - square * covariance[0, 0],
        ]
    )
    found = ratio([above], [below])
    assert found.value == pytest.approx(a / b)
    assert (found.low, found.high) == pytest.approx(sorted(roots.real), rel=1e-9)


def test_seeds_widen_it() -> None:
    above, below = drawn(0)
    alike = ratio([above, above, above], [below])
    apart = ratio([above, [x + 0.2 for x in above], [x - 0.2 for x in above]], [below])
    assert alike.value == pytest.approx(apart.value)
    assert apart.high - apart.low > 2 * (alike.high - alike.low)


def test_of_a_thing_to_itself_it_is_one() -> None:
    above, _ = drawn(1)
    found = ratio([above], [above])
    assert (found.low, found.value, found.high) == pytest.approx((1, 1, 1))


def test_nothing_is_divided_by_what_may_be_nothing() -> None:
    with pytest.raises(ValueError, match="told from 0"):
        ratio([[1.0, 2.0, 3.0]], [[1.0, -1.0, 0.5]])
