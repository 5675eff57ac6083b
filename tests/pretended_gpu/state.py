"""All that is known of one pretended GPU: its memory, waits by call site, attention calls, operators that add in any order."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

from tests.pretended_gpu.memory import NOTHING, Memory
from tests.pretended_gpu.sites import call_site

CUDA = torch.device("cuda", 0)


def tensors_in(*values: Any) -> list[Tensor]:
    """Return the tensors in arguments or results: by themselves, in lists, tuples and dictionaries."""
    found: list[Tensor] = []
    for value in values:
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, list | tuple):
            found += tensors_in(*value)
        elif isinstance(value, dict):
            found += tensors_in(*value.values())
    return found


class State:
    """Shared by the modes of all threads."""

    def __init__(self, memory_bytes: int, capability: tuple[int, int]) -> None:
        self.memory = Memory(memory_bytes)
        self.capability = capability
        self.replays: int | None = None
        self.waits: Counter[str] = Counter()
        self.any_order: Counter[str] = Counter()
        self.attention: Counter[tuple[torch.dtype, bool, bool]] = Counter()
        self.flop: Counter[torch.dtype] = Counter()
        self.capturing: list[object] = []  # the graph being captured, if any
        self._pinned: dict[int, StorageWeakRef] = {}
        self._lock = threading.Lock()

    def wait(self, what: str) -> None:
        """Count a wait for the device at the present call site."""
        site = call_site()
        if self.capturing:
            raise RuntimeError(f"operation not permitted when stream is capturing: {what} at {site}")
        with self._lock:
            self.waits[f"{what} {site}"] += 1

    def pin(self, tensor: Tensor) -> None:
        """Remember that a tensor's memory is page-locked."""
        with NOTHING():
            storage = tensor.untyped_storage()
            self._pinned[storage._cdata] = StorageWeakRef(storage)

    def is_pinned(self, tensor: Tensor) -> bool:
        """True if a tensor's memory is page-locked."""
        with NOTHING():
            return tensor.untyped_storage()._cdata in self._pinned
