"""Storage of an unfinished run of several processes: torch's distributed checkpoint, with a checksum of every file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.checkpoint import state_dict_loader, state_dict_saver

from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.base.files import sha256_of
from puzzledsl.models.errors import UnfinishedWorkDamaged
from puzzledsl.uptrain.ranks import Ranks, writers
from puzzledsl.uptrain.store import (
    FileStore,
    Pointer,
    Store,
    Writer,
    fresh_name,
    is_intact,
    load_file,
    names_in,
)

T = TypeVar("T")


def store_at(folder: Path, ranks: Ranks, *, background: bool = False) -> Store:
    """Return the store for one process (a file) or for several (a directory)."""
    if ranks.world == 1:
        return FileStore(folder, background=background)
    return ShardStore(folder, ranks, background=background)


class ShardStore:
    """One torch.distributed.checkpoint directory per set, which any number of processes can read.

    Rank 0 writes the pointer after the directory is complete, and it alone reads it: what it finds holds for all. All methods are
    collective.
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
        target = self.folder / self._from_first(partial(fresh_name, self.folder, key))
        state_dict_saver.save(dict(tensors), checkpoint_id=target, process_group=self._group)
        own = {path.name: sha256_of(path) for path in target.glob(f"__{self.ranks.rank}_*")}
        each: list[dict[str, str]] = [{} for _ in range(self.ranks.world)]
        dist.all_gather_object(each, own, group=self._group)
        if self.ranks.leads:
            of_all = {name: checksum for part in each for name, checksum in part.items()}
            of_all[".metadata"] = sha256_of(target / ".metadata")
            Pointer(target.name, notes, of_all).write(self.folder, key)
        self._intact.pop(key, None)

    def contents(self, key: str) -> tuple[set[str], dict[str, str]] | None:
        """See Store."""
        self.finish()
        pointer = self._checked(key)
        if pointer is None:
            return None
        names = self._from_first(partial(names_in, self.folder, pointer))
        return None if names is None else (names, pointer.notes)

    @torch.no_grad()
    def load(self, key: str, into: Mapping[str, Tensor]) -> None:
        """See Store."""
        self.finish()
        pointer = self._checked(key)
        if pointer is None:
            path = self.folder / f"{key}.json"
            raise DiagnosticError(UnfinishedWorkDamaged(None, path=path, folder=self.folder))
        path = self.folder / pointer.name
        if pointer.is_file:
            load_file(path, into)
        else:
            state_dict_loader.load(dict(into), checkpoint_id=path, process_group=self._group)

    def finish(self) -> None:
        """See Store."""
        self._writer.finish()

    def _checked(self, key: str) -> Pointer | None:
        """Return the pointer of an intact set. Each process checks its share of the files."""
        pointer = self._from_first(partial(Pointer.read, self.folder, key))
        if pointer is None:
            return None
        if self._intact.get(key) != pointer.name:
            mine = sorted(pointer.files(self.folder).items())[self.ranks.rank :: self.ranks.world]
            bad = sum(not is_intact(path, checksum) for path, checksum in mine)
            if self.ranks.sum([float(bad)])[0]:
                return None
            self._intact[key] = pointer.name
        return pointer

    def _from_first(self, compute: Callable[[], T]) -> T:
        found: list[Any] = [compute() if self.ranks.leads else None]
        dist.broadcast_object_list(found, src=0, group=self._group)
        value: T = found[0]
        return value
