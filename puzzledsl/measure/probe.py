"""Matrix-product throughput of a device: the upper bound of every stage's speed."""

from __future__ import annotations

import time

import torch


def matrix_product_flop_per_s(device: torch.device, dtype: torch.dtype, seconds: float = 0.3) -> float:
    """Return the FLOP/s of the fastest of repeated square products (1024; 4096 on a GPU) within about `seconds`."""
    size = 1024 if device.type == "cpu" else 4096
    a = torch.ones(size, size, dtype=dtype, device=device)
    fastest, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end or fastest == float("inf"):
        began = time.perf_counter()
        float(torch.matmul(a, a)[0, 0])  # reading a number waits for the device
        fastest = min(fastest, time.perf_counter() - began)
    return 2 * size**3 / fastest
