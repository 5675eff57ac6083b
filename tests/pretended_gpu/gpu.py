"""All that is known of one pretended GPU: its memory, waits by call site, attention calls, operators that add in any order.

A storage that lies on the GPU is known by the address of its C++ object. The weak reference keeps that object (not its data), so
no other storage gets the address while the tag exists.
"""

from __future__ import annotations

import os
import sys
import threading
from collections import Counter
from types import FrameType
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

import puzzledsl

CUDA = torch.device("cuda", 0)
NOTHING: Any = torch._C.DisableTorchFunction
"""Context in which reading a storage is no call that a mode sees."""
PACKAGE = os.path.dirname(os.path.abspath(puzzledsl.__file__)) + os.sep
HERE = os.path.dirname(os.path.abspath(__file__)) + os.sep


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


def has_storage(tensor: Tensor) -> bool:
    """False for tensors without bytes and for oneDNN's own, which are on a CPU."""
    return not tensor.is_meta and tensor.layout == torch.strided


def call_site() -> str:
    """Return `folder/file.py:line` inside the package; the nearest line of a test where the package is not on the stack."""
    frame: FrameType | None = sys._getframe(1)
    outside = "?"
    while frame is not None:
        file = frame.f_code.co_filename
        if file.startswith(PACKAGE):
            return f"{file.removeprefix(PACKAGE)}:{frame.f_lineno}"
        is_own = file.startswith(HERE) and not os.path.basename(file).startswith("test_")
        if outside == "?" and "site-packages" not in file and not is_own:
            outside = f"{os.path.basename(file)}:{frame.f_lineno}"
        frame = frame.f_back
    return outside


class Gpu:
    """The pretended GPU, shared by the modes of all threads."""

    def __init__(self, limit_bytes: int, capability: tuple[int, int], replays: int | None) -> None:
        self.limit_bytes = limit_bytes
        self.capability = capability
        self.replays = replays
        self.peak_bytes = 0
        """The most bytes on the device at once since `reset_peak`."""
        self.waits: Counter[str] = Counter()
        """Waits for the device by `what file.py:line`."""
        self.any_order: Counter[str] = Counter()
        """Operators by call site whose sums CUDA adds in any order, so that results differ from run to run."""
        self.attention: Counter[tuple[torch.dtype, bool, bool]] = Counter()
        """Calls of scaled_dot_product_attention by (dtype, grouped, masked)."""
        self.flop: Counter[torch.dtype] = Counter()
        """Floating-point operations of matrix products, by dtype."""
        self.capturing: list[object] = []  # the graph being captured, if any
        self._tags: dict[int, tuple[StorageWeakRef, int]] = {}
        self._counted = 0  # of all tags, also of storages that are gone but not yet forgotten
        self._pinned: dict[int, StorageWeakRef] = {}
        self._lock = threading.RLock()

    @property
    def held_bytes(self) -> int:
        """Bytes of tagged storages that exist now."""
        with self._lock:
            self._forget_expired()
            return self._counted

    def reset_peak(self) -> None:
        """Take what is held now as the peak."""
        self.peak_bytes = self.held_bytes

    def holds(self, tensor: Tensor) -> bool:
        """True if a tensor lies on the device."""
        with NOTHING():
            return has_storage(tensor) and tensor.untyped_storage()._cdata in self._tags

    def put(self, tensor: Tensor) -> None:
        """Tag a tensor's storage. Raises torch.OutOfMemoryError, without tagging it, if the limit is passed."""
        with NOTHING(), self._lock:
            if not has_storage(tensor) or (storage := tensor.untyped_storage())._cdata in self._tags:
                return
            size = storage.nbytes()
            if self._counted + size > min(self.peak_bytes, self.limit_bytes):
                self._forget_expired()
            if self._counted + size > self.limit_bytes:
                raise torch.OutOfMemoryError(
                    f"CUDA out of memory (pretended): tried to allocate {size} bytes; "
                    f"{self._counted} of {self.limit_bytes} are held"
                )
            self._tags[storage._cdata] = StorageWeakRef(storage), size
            self._counted += size
            self.peak_bytes = max(self.peak_bytes, self._counted)

    def drop(self, tensor: Tensor) -> None:
        """Remove the tag of a tensor's storage."""
        with NOTHING(), self._lock:
            _, size = self._tags.pop(tensor.untyped_storage()._cdata, (None, 0))
            self._counted -= size

    def copy(self, tensor: Tensor, to_gpu: bool) -> Tensor:
        """Return a copy on the device, or on the host."""
        out = tensor.clone()
        (self.put if to_gpu else self.drop)(out)
        return out

    def _forget_expired(self) -> None:
        expired = torch.UntypedStorage._expired
        for key in [key for key, (weak, _) in self._tags.items() if expired(weak.cdata)]:
            self._counted -= self._tags.pop(key)[1]

    def pin(self, tensor: Tensor) -> None:
        """Remember that a tensor's memory is page-locked."""
        with NOTHING():
            storage = tensor.untyped_storage()
            self._pinned[storage._cdata] = StorageWeakRef(storage)

    def is_pinned(self, tensor: Tensor) -> bool:
        """True if a tensor's memory is page-locked."""
        with NOTHING():
            return tensor.untyped_storage()._cdata in self._pinned

    def wait(self, what: str) -> None:
        """Count a wait for the device at the present call site."""
        site = call_site()
        if self.capturing:
            raise RuntimeError(f"operation not permitted when stream is capturing: {what} at {site}")
        with self._lock:
            self.waits[f"{what} {site}"] += 1

    def waits_in(self, part: str) -> Counter[str]:
        """Waits at call sites that contain `part`."""
        return Counter({site: count for site, count in self.waits.items() if part in site})
