"""Storages that lie on the pretended GPU, their bytes, and the most bytes held at once.

A storage is known by the address of its C++ object. The weak reference keeps that object (not its data), so no other storage gets
the address while the tag exists.
"""

from __future__ import annotations

import threading
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

NOTHING: Any = torch._C.DisableTorchFunction
"""Context in which reading a storage is no call that a mode sees."""


def has_storage(tensor: Tensor) -> bool:
    """False for tensors without bytes and for oneDNN's own, which are on a CPU."""
    return not tensor.is_meta and tensor.layout == torch.strided


class Memory:
    """Tagged storages of one device with `limit_bytes`."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.peak_bytes = 0
        self._tags: dict[int, tuple[StorageWeakRef, int]] = {}
        self._counted = 0  # of all tags, also of storages that are gone but not yet forgotten
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

    def _forget_expired(self) -> None:
        expired = torch.UntypedStorage._expired
        gone = [key for key, (weak, _) in self._tags.items() if expired(weak.cdata)]
        for key in gone:
            self._counted -= self._tags.pop(key)[1]
