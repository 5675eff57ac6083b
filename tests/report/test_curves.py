"""Axes of a frontier: linear, or logarithmic where losses are far apart, with round values to mark."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest

from puzzledsl.report.pictures.curves import MOST_TICKS, Axis, LogAxis, loss_axis


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([0.01, 3.4, 0.2], LogAxis),
        ([0.1, 1.01], LogAxis),
        ([0.1, 1.0], Axis),
        ([0.3, 0.3], Axis),
        ([0.0, 3.0], Axis),
        ([-0.001, 0.01, 3.0], Axis),
    ],
)
def test_losses_far_apart_are_on_a_logarithmic_axis(values: list[float], kind: type) -> None:
    """Of positive values only, the largest more than ten times the smallest."""
    axis = loss_axis(values)
    assert type(axis) is kind
    assert all(0 < axis.place(value) < 1 for value in values)
    assert all(0 <= axis.place(tick) <= 1 for tick in axis.ticks)


def test_equal_ratios_are_equally_far_apart() -> None:
    places = [LogAxis([0.01, 4.0]).place(value) for value in (0.02, 0.04, 0.08, 0.16)]
    steps = [b - a for a, b in pairwise(places)]
    assert steps == pytest.approx([steps[0]] * 3) and steps[0] > 0


def test_marks_are_1_2_and_5_times_powers_of_ten() -> None:
    assert LogAxis([0.0081, 3.4]).ticks == pytest.approx([0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2])
    assert LogAxis([0.1, 1.3]).ticks == pytest.approx([0.1, 0.2, 0.5, 1])


@pytest.mark.parametrize("decades", [1, 3, 4, 6, 15, 40, 200])
def test_marks_are_thinned_to_whole_powers_evenly_apart(decades: int) -> None:
    ticks = LogAxis([1.1, 1.1 * 10.0**decades]).ticks
    assert 2 <= len(ticks) <= MOST_TICKS
    if decades > 3:
        exponents = [math.log10(tick) for tick in ticks]
        assert exponents == pytest.approx([round(e) for e in exponents])
        apart = {round(b - a) for a, b in pairwise(exponents)}
        assert len(apart) == 1
