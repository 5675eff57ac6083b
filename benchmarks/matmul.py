"""Matrix-product throughput of this process: the limit that benchmarks of training and scoring are held to."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch


def cpu_s(work: Callable[[], object]) -> float:
    """CPU seconds of all threads of this process."""
    began = time.process_time()
    work()
    return time.process_time() - began


def matmul_flop_per_s(hidden: int, intermediate: int) -> float:
    """Float32, FLOP per CPU second: the best of a model's FFN, up and down, and a square, each the mean of four products."""
    rates = []
    for m, k, n in ((2048, hidden, intermediate), (2048, intermediate, hidden), (1024, 1024, 1024)):
        a, b = torch.randn(m, k), torch.randn(k, n)
        rates.append(4 * 2 * m * k * n / cpu_s(lambda a=a, b=b: [a @ b for _ in range(4)]))  # type: ignore[misc]
    return max(rates)
