"""Storage for the tensors of an unfinished run.

One process uses a safetensors file; several use torch's distributed checkpoint, in which each process writes its
part.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.distributed.checkpoint import state_dict_loader, state_dict_saver
from torch.distributed.checkpoint.filesystem import FileSystemReader

from puzzledsl.base.checksums import is_sealed_beside, seal_beside
from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.base.files import replacing, write_text
from puzzledsl.models.errors import UnfinishedWorkDamaged
from puzzledsl.uptrain.ranks import Ranks


class Store(Protocol):
    """Named sets of named tensors, each with notes. A set is stored completely or not at all."""

    def save(self, key: str, tensors: Mapping[str, Tensor], notes: Mapping[str, str]) -> None:
        """Save a set; it replaces an older one of this key."""

    def contents(self, key: str) -> tuple[set[str], dict[str, str]] | None:
        """Return the names of a set's tensors, and its notes; None if there is no readable set."""

    def load(self, key: str, into: Mapping[str, Tensor]) -> None:
        """Load the set's values into these tensors, all of which must be in the set."""


def store_at(folder: Path, ranks: Ranks) -> Store:
    """Return the store for one process (a file) or for several (a directory)."""
    return FileStore(folder) if ranks.world == 1 else ShardStore(folder, ranks)


class FileStore:
    """One safetensors file per set. No pickle."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save(self, key: str, tensors: Mapping[str, Tensor], notes: Mapping[str, str]) -> None:
        """See Store."""
        with replacing(self._path(key)) as temporary:
            held = {name: value.detach().contiguous().cpu() for name, value in tensors.items()}
            save_file(held, temporary, dict(notes))
        seal_beside(self._path(key))

    def contents(self, key: str) -> tuple[set[str], dict[str, str]] | None:
        """See Store."""
        if not is_sealed_beside(self._path(key)):
            return None
        try:
            with safe_open(self._path(key), framework="pt") as file:
                return set(file.keys()), dict(file.metadata() or {})
        except (OSError, SafetensorError):
            return None

    @torch.no_grad()
    def load(self, key: str, into: Mapping[str, Tensor]) -> None:
        """See Store. Raises DiagnosticError (UnfinishedWorkDamaged)."""
        if not is_sealed_beside(self._path(key)):
            raise DiagnosticError(UnfinishedWorkDamaged(None, path=self._path(key), folder=self.folder))
        with safe_open(self._path(key), framework="pt") as file:
            for name, tensor in into.items():
                tensor.copy_(file.get_tensor(name))

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.safetensors"


class ShardStore:
    """One torch.distributed.checkpoint directory per set, which any number of processes can read.

    `KEY.json` names the directory of the set and is written after the directory is complete. All methods are
    collective.
    """

    def __init__(self, folder: Path, ranks: Ranks) -> None:
        self.folder, self.ranks = folder, ranks

    def save(self, key: str, tensors: Mapping[str, Tensor], notes: Mapping[str, str]) -> None:
        """See Store."""
        before = self._directory(key)
        self.ranks.barrier()  # all have looked before rank 0 changes anything
        number = 0 if before is None else int(before.name.rpartition("-")[2]) + 1
        target = self.folder / f"{key}-{number}"
        if self.ranks.leads:
            shutil.rmtree(target, ignore_errors=True)
        self.ranks.barrier()
        state_dict_saver.save(dict(tensors), checkpoint_id=target)
        if self.ranks.leads:
            write_text(
                self.folder / f"{key}.json", json.dumps({"directory": target.name, "notes": dict(notes)})
            )
            if before is not None:
                shutil.rmtree(before, ignore_errors=True)
        self.ranks.barrier()

    def contents(self, key: str) -> tuple[set[str], dict[str, str]] | None:
        """See Store."""
        directory = self._directory(key)
        if directory is None:
            return None
        notes = json.loads((self.folder / f"{key}.json").read_text(encoding="utf-8"))["notes"]
        metadata = FileSystemReader(directory).read_metadata()
        return set(metadata.state_dict_metadata), notes

    @torch.no_grad()
    def load(self, key: str, into: Mapping[str, Tensor]) -> None:
        """See Store."""
        state_dict_loader.load(dict(into), checkpoint_id=self._directory(key))

    def _directory(self, key: str) -> Path | None:
        try:
            pointer = json.loads((self.folder / f"{key}.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        directory = self.folder / str(pointer["directory"])
        return directory if (directory / ".metadata").is_file() else None
