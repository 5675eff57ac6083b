"""The learning rate rises to its peak, in a short run too, and falls to nothing."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from puzzledsl.ir.nodes import Schedule
from puzzledsl.models.divergence import learning_rate, warmup_steps


def rates(schedule: Schedule, steps: int) -> list[float]:
    return [learning_rate(schedule, step, steps) for step in range(steps)]


@given(steps=st.integers(1, 300), warmup=st.floats(0, 0.9))
def test_cosine_rises_then_falls(steps: int, warmup: float) -> None:
    schedule = Schedule(peak=0.5, warmup=warmup)
    found, rising = rates(schedule, steps), warmup_steps(schedule, steps)
    assert min(found) > 0 and max(found) <= 0.5
    assert found[: rising + 1] == sorted(found[: rising + 1])
    assert found[rising:] == sorted(found[rising:], reverse=True)
    assert rising == steps or found[rising] == 0.5


@given(steps=st.integers(2, 300), warmup=st.floats(1e-6, 0.5))
def test_any_warm_up_is_at_least_a_step_below_the_peak(steps: int, warmup: float) -> None:
    found = rates(Schedule(kind="constant", peak=1.0, warmup=warmup), steps)
    assert found[0] <= 0.5 and found[-1] == 1.0
    assert sum(rate < 1 for rate in found) == math.ceil(warmup * steps)


def test_twelve_steps_with_five_percent_begin_at_half_the_peak() -> None:
    found = rates(Schedule(peak=1e-4, warmup=0.05), 12)
    assert found[:2] == pytest.approx([5e-5, 1e-4]) and found[1:] == sorted(found[1:], reverse=True)


def test_constant_stays_and_warm_up_is_linear() -> None:
    found = rates(Schedule(kind="constant", peak=1.0, warmup=0.4), 10)
    assert found == pytest.approx([0.2, 0.4, 0.6, 0.8, *[1.0] * 6])
    assert rates(Schedule(kind="constant", peak=2.0), 3) == [2.0] * 3


def test_cosine_is_half_of_the_peak_half_way() -> None:
    assert abs(learning_rate(Schedule(peak=2.0), 50, 100) - 1.0) < 1e-12
    assert learning_rate(Schedule(peak=2.0, warmup=0.2), 6, 10) == pytest.approx(1 + math.cos(math.pi / 2))
