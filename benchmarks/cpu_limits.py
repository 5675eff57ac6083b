"""Limits of CPU time for solvers that only know limits of wall time, so that a busy machine does not stop them early."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import Generic, TypeVar

from benchmarks.rivals import cpu_s

A = TypeVar("A")
ENOUGH = 0.8  # of the CPU seconds that a solver is allowed; with fewer it is run again
TRIES = 3
MOST = 6  # times the limit, of wall time


@dataclass(frozen=True, slots=True)
class Timed(Generic[A]):
    """An answer, and the CPU seconds until it."""

    answer: A
    seconds: float


def with_cpu_limit(solve: Callable[[float], A], limit_s: float, proven: Callable[[A], bool]) -> Timed[A]:
    """Run `solve(wall_s)` until it proves its answer, ends by itself or has had about `limit_s` CPU seconds.

    A run that the wall clock stops with less is repeated with a longer limit. It may then have more CPU seconds than asked for,
    where the machine is less busy.
    """
    wall_s = limit_s
    for tried in range(1, TRIES + 1):
        began, clock = cpu_s(), monotonic()
        answer = solve(wall_s)
        spent, took_s = cpu_s() - began, monotonic() - clock
        stopped_early = took_s >= ENOUGH * wall_s and spent < ENOUGH * limit_s
        if proven(answer) or not stopped_early or tried == TRIES:
            return Timed(answer, spent)
        wall_s = min(wall_s * limit_s / max(spent, limit_s / MOST), MOST * limit_s)
    raise AssertionError("a run returns")
