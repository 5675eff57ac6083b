"""Storage for the tensors of an unfinished run, sealed: a set that is torn or changed is never read.

One process uses a safetensors file; several use torch's distributed checkpoint, in which each process writes its
part. Both can write in the background, from a copy in the host's memory, while the training goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Protocol

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from puzzledsl.base.checksums import is_sealed_beside, seal_beside
from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.base.files import replacing, sha256_of
from puzzledsl.models.errors import UnfinishedWorkDamaged
from puzzledsl.uptrain.shard import local


class Store(Protocol):
    """Named sets of named tensors, each with notes. A set is stored completely or not at all."""

    def save(self, key: str, tensors: Mapping[str, Tensor], notes: Mapping[str, str]) -> None:
        """Save a set as it is now; it replaces an older one of this key, at the latest when `finish` returns."""

    def contents(self, key: str) -> tuple[set[str], dict[str, str]] | None:
        """Return the names of a set's tensors, and its notes; None if there is no readable set."""

    def load(self, key: str, into: Mapping[str, Tensor]) -> None:
        """Load the set's values into these tensors, all of which must be in the set.

        Raises DiagnosticError (UnfinishedWorkDamaged).
        """

    def finish(self) -> None:
        """Wait until everything is written. Raises what writing raised."""


class Writer:
    """Writes one set at a time; in the background, if asked to, of which the next call or `finish` waits for the end."""

    def __init__(self, background: bool) -> None:
        self.background = background
        self._thread = ThreadPoolExecutor(1) if background else None
        self._pending: Future[None] | None = None

    def start(self, tensors: Mapping[str, Tensor], write: Callable[[Mapping[str, Tensor]], None]) -> None:
        """Call `write` with the values that the tensors have now."""
        self.finish()
        if self._thread is None:
            write(tensors)
            return
        held = {name: value.detach().to("cpu", copy=True) for name, value in tensors.items()}
        self._pending = self._thread.submit(write, held)

    def finish(self) -> None:
        """Wait for the last write. Raises what it raised."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()


class FileStore:
    """One safetensors file per set. No pickle. A tensor that is cut over one process is whole in its part."""

    def __init__(self, folder: Path, *, background: bool = False) -> None:
        self.folder = folder
        self._writer = Writer(background)

    def save(self, key: str, tensors: Mapping[str, Tensor], notes: Mapping[str, str]) -> None:
        """See Store."""
        self._writer.start(tensors, partial(self._write, key, dict(notes)))

    def _write(self, key: str, notes: dict[str, str], tensors: Mapping[str, Tensor]) -> None:
        with replacing(self._path(key)) as temporary:
            held = {name: local(value.detach()).contiguous().cpu() for name, value in tensors.items()}
            save_file(held, temporary, notes)
            digest = sha256_of(
                temporary
            )  # before it replaces the old one: killed while hashing, that is still whole
        seal_beside(self._path(key), digest)

    def contents(self, key: str) -> tuple[set[str], dict[str, str]] | None:
        """See Store."""
        self.finish()
        if not is_sealed_beside(self._path(key)):
            return None
        try:
            with safe_open(self._path(key), framework="pt") as file:
                return set(file.keys()), dict(file.metadata() or {})
        except (OSError, SafetensorError):
            return None

    @torch.no_grad()
    def load(self, key: str, into: Mapping[str, Tensor]) -> None:
        """See Store."""
        self.finish()
        if not is_sealed_beside(self._path(key)):
            raise DiagnosticError(UnfinishedWorkDamaged(None, path=self._path(key), folder=self.folder))
        with safe_open(self._path(key), framework="pt") as file:
            for name, tensor in into.items():
                local(tensor).copy_(file.get_tensor(name))

    def finish(self) -> None:
        """See Store."""
        self._writer.finish()

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.safetensors"
