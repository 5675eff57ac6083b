"""Deterministic kernels on CUDA, so that an interrupted run and a repeated one give the same bits.

Sums over duplicate indices (`index_add_`) and the backward pass of attention add in any order on CUDA. PyTorch has slower
forms of both with a fixed order. Operators without such a form go on as they are.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def repeatable(device: torch.device) -> Iterator[None]:
    """Inside the context, CUDA operators add in a fixed order. On a CPU, they do so anyway."""
    if device.type != "cuda":
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when cuBLAS first runs
    fill: Any = (
        torch.utils.deterministic
    )  # has a property in place of a function, which type checkers do not see
    mode, filled = torch.get_deterministic_debug_mode(), fill.fill_uninitialized_memory
    torch.set_deterministic_debug_mode(max(mode, 1))
    fill.fill_uninitialized_memory = False  # nothing here reads memory before it is written
    try:
        yield
    finally:
        torch.set_deterministic_debug_mode(mode)
        fill.fill_uninitialized_memory = filled
