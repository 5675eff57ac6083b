"""The learning rate rises to its peak and falls to nothing."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from puzzledsl.ir.nodes import Schedule
from puzzledsl.uptrain.schedule import learning_rate


@given(steps=st.integers(1, 300), warmup=st.floats(0, 0.9))
def test_cosine_rises_then_falls(steps, warmup):
    schedule = Schedule(peak=0.5, warmup=warmup)
    rates = [learning_rate(schedule, step, steps) for step in range(steps)]
    top = rates.index(max(rates))
    assert max(rates) == 0.5 and min(rates) > 0
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert top == max(0, round(warmup * steps) - 1)


def test_constant_stays_and_warm_up_is_linear():
    schedule = Schedule(kind="constant", peak=1.0, warmup=0.4)
    rates = [learning_rate(schedule, step, 10) for step in range(10)]
    assert rates == [0.25, 0.5, 0.75, 1.0] + [1.0] * 6


def test_cosine_is_half_of_the_peak_half_way():
    assert abs(learning_rate(Schedule(peak=2.0), 50, 100) - 1.0) < 1e-12
