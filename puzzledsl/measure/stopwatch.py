"""Laps of one computation, and a probe of this machine's speeds: matrix products, and copies to new memory.

Laps are taken by the clock on a CPU, and by events on a GPU, in a replayed CUDA graph if this PyTorch has events inside graphs.
A computation calls `lap()` at the places of interest. `prepare` returns a callable that runs the computation once a call, and
returns the seconds between consecutive laps. The probe counts processor time on a CPU.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from puzzledsl.base.frozen import Record
from puzzledsl.base.process import cpu_name

Run = Callable[[], list[float]]
WARM_UP_RUNS = 3  # before a CUDA graph is captured


class CpuStopwatch:
    """Stopwatch on the process's monotonic clock: CPU operators are finished when they return."""

    def __init__(self) -> None:
        self._laps: list[int] = []

    def lap(self) -> None:
        """Record a lap now. The computation itself calls it (from hooks)."""
        self._laps.append(time.perf_counter_ns())

    def prepare(self, computation: Callable[[], object]) -> Run:
        """Return a callable that runs the computation as it is; it can change state, such as a growing cache.

        It returns the seconds from the start to the first lap, between laps, and from the last one to the end.
        """

        def run() -> list[float]:
            self._laps.clear()
            self.lap()
            computation()
            self.lap()
            return [(b - a) / 1e9 for a, b in pairwise(self._laps)]

        return run


class CudaStopwatch:
    """Stopwatch by events in a CUDA graph, without Python's launch overhead. Each run starts with a flushed L2 cache.

    If PyTorch has no events inside graphs, each run launches the kernels. A launch longer than its kernel then adds to the time.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._events: list[Any] = []
        self.in_graphs = _has_events_in_graphs()
        l2_bytes = getattr(torch.cuda.get_device_properties(device), "L2_cache_size", 64 << 20)
        self._scratch = torch.empty(2 * l2_bytes, dtype=torch.uint8, device=device)

    def lap(self) -> None:
        """Record an event on the current stream (a node of the graph while capturing)."""
        more = {"external": True} if self.in_graphs else {}
        event = torch.cuda.Event(enable_timing=True, **more)  # type: ignore[no-untyped-call]
        event.record()
        self._events.append(event)

    def prepare(self, computation: Callable[[], object]) -> Run:
        """Capture a graph after a warm-up; return what replays it. The computation must not depend on state that it changes."""

        def launched() -> list[float]:
            self._scratch.zero_()
            return self._seconds(self._between_events(computation))

        if not self.in_graphs:
            return launched
        side = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(side):
            for _ in range(WARM_UP_RUNS):
                computation()
        torch.cuda.current_stream(self._device).wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            events = self._between_events(computation)

        def replayed() -> list[float]:
            self._scratch.zero_()
            graph.replay()
            return self._seconds(events)

        return replayed

    def _between_events(self, computation: Callable[[], object]) -> list[Any]:
        self._events = []
        self.lap()
        computation()
        self.lap()
        return self._events

    def _seconds(self, events: Sequence[Any]) -> list[float]:
        torch.cuda.synchronize(self._device)
        return [a.elapsed_time(b) / 1e3 for a, b in pairwise(events)]


Stopwatch = CpuStopwatch | CudaStopwatch


def stopwatch_for(device: torch.device) -> Stopwatch:
    """Return the stopwatch for a device."""
    return CudaStopwatch(device) if device.type == "cuda" else CpuStopwatch()


def _has_events_in_graphs() -> bool:
    """True if this PyTorch has events that keep their time inside a CUDA graph (`external`)."""
    try:
        torch.cuda.Event(enable_timing=True, external=True)  # type: ignore[no-untyped-call]
    except TypeError:
        return False
    return True


def undisturbed(values: Sequence[float]) -> float:
    """Return the lower decile: other work on the machine can only lengthen a time."""
    return statistics.quantiles(values, n=10, method="inclusive")[0] if len(values) > 1 else values[0]


def spread(values: Sequence[float]) -> float:
    """Return the standard error of the median by the median absolute deviation (0 for fewer than two values)."""
    if len(values) < 2:
        return 0.0
    centre = statistics.median(values)
    deviation = 1.4826 * statistics.median(abs(v - centre) for v in values)
    return float(1.2533 * deviation / len(values) ** 0.5)


def deviation(values: Sequence[float]) -> float:
    """Return the standard deviation as a share of the median, by the median absolute deviation (0 for fewer than two values)."""
    if len(values) < 2:
        return 0.0
    centre = statistics.median(values)
    return 1.4826 * statistics.median(abs(v - centre) for v in values) / centre


def machine(device: torch.device) -> str:
    """Describe the machine of a measurement: the GPU, or the processor and torch's number of threads; torch's version."""
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}"
    return f"{cpu_name()}, {torch.get_num_threads()} threads, torch {torch.__version__}"


CPU_SIZE, GPU_SIZE = 1024, 4096
"""Rows of the square matrices that the probe multiplies, on a CPU and on a GPU."""
COPIED_NUMBERS = 1 << 24
"""Float32 numbers that the probe copies: too many for a cache of one processor, and new memory each time."""


class Rates(Record):
    """FLOP/s of matrix products in a dtype, and bytes/s read and written by a copy to new memory."""

    flop_per_s: float
    bytes_per_s: float


def rates_of(device: torch.device, dtype: torch.dtype, seconds: float = 0.3) -> Rates:
    """Return a device's speeds, of the fastest repetition within about `seconds` each; `dtype`: of the matrix products."""
    numbers = torch.ones(COPIED_NUMBERS, device=device)
    copied = _fastest_s(device, lambda: numbers.clone(), seconds)
    return Rates(matrix_product_flop_per_s(device, dtype, seconds), 2 * numbers.nbytes / copied)


def matrix_product_flop_per_s(device: torch.device, dtype: torch.dtype, seconds: float = 0.3) -> float:
    """Return the FLOP/s of the fastest of repeated square products within about `seconds`."""
    size = CPU_SIZE if device.type == "cpu" else GPU_SIZE
    a = torch.ones(size, size, dtype=dtype, device=device)
    return 2 * size**3 / _fastest_s(device, lambda: torch.matmul(a, a), seconds)


def _fastest_s(device: torch.device, run: Callable[[], Tensor], seconds: float) -> float:
    """Return the seconds of the fastest repetition: on a CPU, its processor time divided by the number of torch's threads."""
    on_cpu = device.type == "cpu"
    clock, threads = (time.process_time, torch.get_num_threads()) if on_cpu else (time.perf_counter, 1)
    fastest, end = float("inf"), clock() + seconds * threads
    while clock() < end or fastest == float("inf"):
        began = clock()
        found = run()
        if not on_cpu:
            float(found.flatten()[0])  # reading a number waits for the device
        fastest = min(fastest, max(clock() - began, 1e-9) / threads)
    return fastest
