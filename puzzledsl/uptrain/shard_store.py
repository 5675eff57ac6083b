"""Storage of an unfinished run of several processes: torch's distributed checkpoint, with a checksum of every file."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.checkpoint import state_dict_loader, state_dict_saver
from torch.distributed.checkpoint.filesystem import FileSystemReader

from puzzledsl.base.checksums import read_sealed, write_sealed
from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.base.files import sha256_of
from puzzledsl.models.errors import UnfinishedWorkDamaged
from puzzledsl.uptrain.ranks import Ranks, writers
from puzzledsl.uptrain.store import FileStore, Store, Writer

T = TypeVar("T")


def store_at(folder: Path, ranks: Ranks, *, background: bool = False) -> Store:
    """Return the store for one process (a file) or for several (a directory)."""
    if ranks.world == 1:
        return FileStore(folder, background=background)
    return ShardStore(folder, ranks, background=background)


class ShardStore:
    """One torch.distributed.checkpoint directory per set, which any number of processes can read.

    `KEY.json`, sealed, names the directory of the set and the checksum of each of its files. Rank 0 writes it after the
    directory is complete, and it alone reads it: what it finds holds for all. All methods are collective.
    """

    def __init__(self, folder: Path, ranks: Ranks, *, background: bool = False) -> None:
        self.folder, self.ranks = folder, ranks
        self._writer = Writer(background)
        self._group = writers(ranks)
        self._intact: dict[str, str] = {}

    def save(self, key: str, tensors: Mapping[str, Tensor], notes: Mapping[str, str]) -> None:
        """See Store."""
        self._writer.start(tensors, partial(self._write, key, dict(notes)))

    def _write(self, key: str, notes: dict[str, str], tensors: Mapping[str, Tensor]) -> None:
        """Write the set; may run in a thread, so it uses only the group of writers."""
        target = self._from_first(partial(self._fresh, key))
        state_dict_saver.save(dict(tensors), checkpoint_id=target, process_group=self._group)
        own = {path.name: sha256_of(path) for path in target.glob(f"__{self.ranks.rank}_*")}
        each: list[dict[str, str]] = [{} for _ in range(self.ranks.world)]
        dist.all_gather_object(each, own, group=self._group)
        if self.ranks.leads:
            of_all = {name: checksum for part in each for name, checksum in part.items()}
            of_all[".metadata"] = sha256_of(target / ".metadata")
            pointer = {"directory": target.name, "notes": notes, "checksums": of_all}
            write_sealed(self._pointer(key), json.dumps(pointer))
            self._sweep(key, target)
        self._intact.pop(key, None)

    def _fresh(self, key: str) -> Path:
        """Return the name of a directory that does not exist; what an interrupted write left is removed."""
        now = self._read_pointer(key)
        before = None if now is None else self.folder / str(now["directory"])
        self._sweep(key, before)
        number = 0 if before is None else int(before.name.rpartition("-")[2]) + 1
        return self.folder / f"{key}-{number}"

    def _sweep(self, key: str, kept: Path | None) -> None:
        for path in self.folder.glob(f"{key}-*"):
            if path != kept:
                shutil.rmtree(path, ignore_errors=True)

    def contents(self, key: str) -> tuple[set[str], dict[str, str]] | None:
        """See Store."""
        self.finish()
        directory, pointer = self._checked(key)
        if directory is None:
            return None
        names = self._from_first(lambda: set(FileSystemReader(directory).read_metadata().state_dict_metadata))
        return names, dict(pointer["notes"])

    @torch.no_grad()
    def load(self, key: str, into: Mapping[str, Tensor]) -> None:
        """See Store."""
        self.finish()
        directory, _ = self._checked(key)
        if directory is None:
            raise DiagnosticError(UnfinishedWorkDamaged(None, path=self._pointer(key), folder=self.folder))
        state_dict_loader.load(dict(into), checkpoint_id=directory, process_group=self._group)

    def finish(self) -> None:
        """See Store."""
        self._writer.finish()

    def _checked(self, key: str) -> tuple[Path | None, dict[str, Any]]:
        """Return the directory of an intact set, and what `KEY.json` says. Each process checks its share of the files."""
        pointer = self._from_first(lambda: self._read_pointer(key))
        if pointer is None:
            return None, {}
        directory = self.folder / str(pointer["directory"])
        if self._intact.get(key) != directory.name:
            mine = sorted(pointer["checksums"].items())[self.ranks.rank :: self.ranks.world]
            bad = sum(not _matches(directory / name, checksum) for name, checksum in mine)
            if self.ranks.sum([float(bad)])[0]:
                return None, {}
            self._intact[key] = directory.name
        return directory, pointer

    def _read_pointer(self, key: str) -> dict[str, Any] | None:
        content = read_sealed(self._pointer(key))
        return None if content is None else dict(json.loads(content))

    def _pointer(self, key: str) -> Path:
        return self.folder / f"{key}.json"

    def _from_first(self, compute: Callable[[], T]) -> T:
        found: list[Any] = [compute() if self.ranks.leads else None]
        dist.broadcast_object_list(found, src=0, group=self._group)
        value: T = found[0]
        return value


def _matches(path: Path, checksum: str) -> bool:
    try:
        return sha256_of(path) == checksum
    except OSError:
        return False
