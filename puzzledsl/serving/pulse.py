"""The pace of a machine from moment to moment: a small product on the server's cores, ten times a second.

Cores of a virtual machine share their execution units with other machines', and take up to a third longer at times: no clock of
this machine shows that, but the processor time of a product that is always the same does. Lone requests and this time rise and
fall together (correlation .99 over windows of 6 s, llama-server on one core).
"""

import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from itertools import cycle
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from puzzledsl.base.frozen import Record
from puzzledsl.costs.metrics import NS_PER_S
from puzzledsl.costs.simulation import Engine, Latency, Request

SIDE, PRODUCTS = 64, 48
"""A beat is so many products of square matrices, small enough for one thread and the nearest cache: half a millisecond."""
EVERY_S = 0.1
"""Seconds between two beats, which take half a percent of a core."""
SMOOTHED = 5
"""Number of beats whose mean is the pace of a moment: a single beat is interrupted now and then."""
FAR_S = 1e6
"""Seconds after the last beat for which a clock goes on at the mean pace."""


class Clock(Record, eq=False):
    """Seconds of this machine since a moment, at each beat, and the seconds that the same work takes at the usual pace."""

    real_s: NDArray[np.float64]
    usual_s: NDArray[np.float64]

    def usual(self, real_s: float) -> float:
        """Return the time at the usual pace that corresponds to a time of this machine."""
        return float(np.interp(real_s, self.real_s, self.usual_s))

    def real(self, usual_s: float) -> float:
        """Return the time of this machine that corresponds to a time at the usual pace."""
        return float(np.interp(usual_s, self.usual_s, self.real_s))

    def pace(self, end_s: float) -> float:
        """Return how many times as long as at the usual pace this machine takes, on average up to `end_s`."""
        return end_s / self.usual(end_s)

    def at_usual_pace(self, request: Request, latency: Latency) -> Latency:
        """Return the latency that a request would have had at the usual pace."""
        return _mapped(request, latency, self.usual)

    def served(self, engine: Engine, requests: Sequence[Request]) -> list[Latency]:
        """Return latencies on this machine by simulation; the times in `engine` are those at the usual pace."""
        moved = [
            Request(int(self.usual(each.arrival_ns / NS_PER_S) * NS_PER_S), each.prompt, each.output)
            for each in requests
        ]
        return [_mapped(*each, self.real) for each in zip(moved, engine.serve(moved), strict=True)]


def _mapped(request: Request, latency: Latency, moved: Callable[[float], float]) -> Latency:
    arrival, after = request.arrival_ns / NS_PER_S, max(request.output - 1, 1)
    first = arrival + latency.ttft_s
    moments = (arrival, first, first + latency.tpot_s * after)
    arrived, began, ended = map(moved, moments)
    return Latency(began - arrived, (ended - began) / after)


class Pulse:
    """Context in which a thread notes the pace of some cores. Without cores the pace counts as constant."""

    def __init__(self, cores: Iterable[int]) -> None:
        self._cores, self._stop = sorted(cores), threading.Event()
        self._beats: list[tuple[float, float]] = []
        self._usual_s: float | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        """Start."""
        if self._cores:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        self._stop.set()
        if self._cores:
            self._thread.join()

    def _run(self) -> None:
        one, out = np.ones((SIDE, SIDE), np.float32), np.empty((SIDE, SIDE), np.float32)
        for core in cycle(self._cores):
            os.sched_setaffinity(threading.get_native_id(), {core})
            begun = time.thread_time()
            for _ in range(PRODUCTS):
                np.matmul(one, one, out=out)
            self._beats.append((time.monotonic(), time.thread_time() - begun))
            if self._stop.wait(EVERY_S):
                return

    def clock(self, begun: float) -> Clock:
        """Return the clock since `begun`, of `time.monotonic`. The usual pace is the median of all beats up to the first call."""
        beats = np.array(self._beats or [(begun, 1.0)])
        if self._usual_s is None:
            self._usual_s = float(np.median(beats[:, 1]))
        window = np.ones(min(SMOOTHED, len(beats))) / min(SMOOTHED, len(beats))
        smooth = np.convolve(beats[:, 1], window, "same") / np.convolve(np.ones(len(beats)), window, "same")
        here = beats[:, 0] > begun
        times, paces = beats[here, 0] - begun, smooth[here] / self._usual_s
        real_s = np.concatenate([[0.0], times, [times[-1] + FAR_S if len(times) else FAR_S]])
        paces = np.append(paces, paces.mean() if len(paces) else 1.0)
        return Clock(real_s, np.concatenate([[0.0], np.cumsum(np.diff(real_s) / paces)]))
