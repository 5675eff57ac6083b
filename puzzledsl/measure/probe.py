"""Speeds of this machine that estimates rest on: matrix products, and writing to new memory.

On a CPU they are of processor time, so that other programs that run beside the probe do not change them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

CPU_SIZE, GPU_SIZE = 1024, 4096
"""Rows of the square matrices."""
COPIED_NUMBERS = 1 << 24
"""Float32 numbers of a copy: too many for a cache of one processor, and new memory each time."""


@dataclass(frozen=True, slots=True)
class Rates:
    """FLOP/s of matrix products in a dtype and in float64, and bytes/s read and written by a copy to new memory."""

    flop_per_s: float
    float64_flop_per_s: float
    bytes_per_s: float


def rates_of(device: torch.device, dtype: torch.dtype, seconds: float = 0.3) -> Rates:
    """Return the speeds of a device, each of about `seconds` of repetitions."""
    numbers = torch.ones(COPIED_NUMBERS, device=device)
    copied = _fastest_s(device, lambda: numbers.clone(), seconds)
    return Rates(
        matrix_product_flop_per_s(device, dtype, seconds),
        matrix_product_flop_per_s(device, torch.float64, seconds),
        2 * numbers.nbytes / copied,
    )


def matrix_product_flop_per_s(device: torch.device, dtype: torch.dtype, seconds: float = 0.3) -> float:
    """Return the FLOP/s of the fastest of repeated square products within about `seconds`."""
    size = CPU_SIZE if device.type == "cpu" else GPU_SIZE
    a = torch.ones(size, size, dtype=dtype, device=device)
    return 2 * size**3 / _fastest_s(device, lambda: torch.matmul(a, a), seconds)


def _fastest_s(device: torch.device, run: Callable[[], Tensor], seconds: float) -> float:
    """Return the seconds of the fastest repetition: on a CPU processor time, shared out over torch's threads."""
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
