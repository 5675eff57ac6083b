"""The pace of a machine: times of a slow moment are longer, and a simulation that counts them is served so."""

import time
from fractions import Fraction

import numpy as np
import pytest

from puzzledsl.costs.simulation import Engine, Latency, Request
from puzzledsl.serving.pulse import Clock, Pulse

SLOW_FROM_2S = Clock(np.array([0.0, 2.0, 102.0]), np.array([0.0, 2.0, 52.0]))
"""From the third second on, everything takes twice as long."""
ENGINE = Engine(Fraction(10**7), (10**8, 2 * 10**8))
"""10 ms a token of a prompt, 100 ms a step of one sequence."""


def test_what_is_served_in_a_slow_moment_takes_longer() -> None:
    early, late = Request(0, 100, 6), Request(4 * 10**9, 100, 6)
    assert ENGINE.serve([early, late]) == [Latency(1.0, 0.1)] * 2
    first, second = SLOW_FROM_2S.served(ENGINE, [early, late])
    assert (first.ttft_s, first.tpot_s) == pytest.approx((1.0, 0.1))
    assert (second.ttft_s, second.tpot_s) == pytest.approx((2.0, 0.2))
    back = SLOW_FROM_2S.at_usual_pace(late, second)
    assert (back.ttft_s, back.tpot_s) == pytest.approx((1.0, 0.1))
    assert SLOW_FROM_2S.pace(2) == pytest.approx(1) and SLOW_FROM_2S.pace(12) == pytest.approx(12 / 7)


def test_without_cores_the_pace_is_even() -> None:
    with Pulse(()) as pulse:
        clock = pulse.clock(time.monotonic())
    assert clock.usual(45.0) == 45 and clock.pace(45.0) == 1
