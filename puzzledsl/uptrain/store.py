"""Storage for the tensors of an unfinished run, sealed: a set that is torn or changed is never read.

One process writes a safetensors file; several write torch's distributed checkpoint, in which each process has its
part, with a checksum of every file. Any number of processes reads either. Both can be written in the background, from a copy in
the host's memory, while the training goes on.
"""

from __future__ import annotations

import json
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from warnings import catch_warnings, simplefilter

import torch
import torch.distributed as dist
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.distributed.checkpoint import state_dict_loader, state_dict_saver
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.tensor import DTensor

from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.base.files import read_sealed, replacing, sha256_of, write_sealed
from puzzledsl.models.errors import UnfinishedWorkDamaged
from puzzledsl.uptrain.ranks import Ranks, first_row, local, writers

SUFFIX = ".safetensors"
T = TypeVar("T")


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


@dataclass(frozen=True, slots=True)
class Pointer:
    """The present set of a key: a file or a directory, its notes, and the checksum of each of its files.

    It is a sealed file, `KEY.json`, which is replaced once a new set is complete. Until then, the old set is the present one.
    """

    name: str
    notes: dict[str, str]
    checksums: dict[str, str]

    @classmethod
    def read(cls, folder: Path, key: str) -> Pointer | None:
        """Return the pointer of a key; None if there is none, or a damaged one."""
        content = read_sealed(folder / f"{key}.json")
        found = {} if content is None else json.loads(content)
        return cls(**found) if set(found) == {"name", "notes", "checksums"} else None

    def write(self, folder: Path, key: str) -> None:
        """Make this set the present one, and remove the others of its key."""
        write_sealed(folder / f"{key}.json", json.dumps(asdict(self)))
        sweep(folder, key, self.name)

    @property
    def is_file(self) -> bool:
        """True if one process wrote the set."""
        return self.name.endswith(SUFFIX)

    def files(self, folder: Path) -> dict[Path, str]:
        """Return the set's files with their checksums."""
        root = folder if self.is_file else folder / self.name
        return {root / name: checksum for name, checksum in self.checksums.items()}


def fresh_name(folder: Path, key: str) -> str:
    """Return a name for the next set of a key; what an interrupted write left is removed."""
    now = Pointer.read(folder, key)
    sweep(folder, key, None if now is None else now.name)
    number = 0 if now is None else int(now.name.removesuffix(SUFFIX).rpartition("-")[2]) + 1
    return f"{key}-{number}"


def sweep(folder: Path, key: str, kept: str | None) -> None:
    """Remove the sets of a key but one."""
    for path in folder.glob(f"{key}-*"):
        if path.name != kept:
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def is_intact(path: Path, checksum: str) -> bool:
    """Return True if the file is there and as it was written."""
    try:
        return sha256_of(path) == checksum
    except OSError:
        return False


def names_in(folder: Path, pointer: Pointer) -> set[str] | None:
    """Return the names of a set's tensors; None if it cannot be read."""
    if not pointer.is_file:
        return set(FileSystemReader(folder / pointer.name).read_metadata().state_dict_metadata)
    try:
        with safe_open(folder / pointer.name, framework="pt") as file:
            return set(file.keys())
    except (OSError, SafetensorError):
        return None


def load_file(path: Path, into: Mapping[str, Tensor]) -> None:
    """Fill tensors from a set that one process wrote; of one that is cut over processes, this process's rows."""
    with safe_open(path, framework="pt") as file:
        for name, tensor in into.items():
            if isinstance(tensor, DTensor):
                own, first = local(tensor), first_row(tensor)
                own.copy_(file.get_slice(name)[first : first + len(own)])
            else:
                tensor.copy_(file.get_tensor(name))


class Store(ABC):
    """Named sets of named tensors, each with notes. A set is stored completely or not at all."""

    def __init__(self, folder: Path, *, background: bool = False) -> None:
        self.folder = folder
        self._writer = Writer(background)

    def save(self, key: str, tensors: Mapping[str, Tensor], notes: Mapping[str, str]) -> None:
        """Save a set as it is now; it replaces an older one of this key, at the latest when `finish` returns."""
        self._writer.start(tensors, partial(self._write, key, dict(notes)))

    def contents(self, key: str) -> tuple[set[str], dict[str, str]] | None:
        """Return the names of a set's tensors, and its notes; None if there is no readable set."""
        self.finish()
        if (pointer := self._checked(key)) is None:
            return None
        names = self._from_first(partial(names_in, self.folder, pointer))
        return None if names is None else (names, pointer.notes)

    @torch.no_grad()
    def load(self, key: str, into: Mapping[str, Tensor]) -> None:
        """Load a set's values into these of its tensors. Raises DiagnosticError (UnfinishedWorkDamaged)."""
        self.finish()
        if (pointer := self._checked(key)) is None:
            path = self.folder / f"{key}.json"
            raise DiagnosticError(UnfinishedWorkDamaged(None, path=path, folder=self.folder))
        path = self.folder / pointer.name
        load_file(path, into) if pointer.is_file else self._load_directory(path, into)

    def finish(self) -> None:
        """Wait until everything is written. Raises what writing raised."""
        self._writer.finish()

    @abstractmethod
    def _write(self, key: str, notes: dict[str, str], tensors: Mapping[str, Tensor]) -> None: ...

    @abstractmethod
    def _checked(self, key: str) -> Pointer | None:
        """Return the pointer of an intact set."""

    @abstractmethod
    def _load_directory(self, path: Path, into: Mapping[str, Tensor]) -> None: ...

    def _from_first(self, compute: Callable[[], T]) -> T:
        return compute()


class FileStore(Store):
    """Store of one process: a safetensors file per set. No pickle."""

    def _write(self, key: str, notes: dict[str, str], tensors: Mapping[str, Tensor]) -> None:
        path = self.folder / f"{fresh_name(self.folder, key)}{SUFFIX}"
        with replacing(path) as temporary:
            held = {name: local(value.detach()).contiguous().cpu() for name, value in tensors.items()}
            save_file(held, temporary, notes)
            digest = sha256_of(temporary)
        Pointer(path.name, notes, {path.name: digest}).write(self.folder, key)

    def _checked(self, key: str) -> Pointer | None:
        pointer = Pointer.read(self.folder, key)
        if pointer is None or not all(is_intact(*each) for each in pointer.files(self.folder).items()):
            return None
        return pointer

    def _load_directory(self, path: Path, into: Mapping[str, Tensor]) -> None:
        here = {name: local(tensor) for name, tensor in into.items()}
        with catch_warnings():
            simplefilter("ignore", UserWarning)  # that this is a single process
            state_dict_loader.load(here, checkpoint_id=path, no_dist=True)


class ShardStore(Store):
    """One torch.distributed.checkpoint directory per set. Rank 0 alone writes and reads pointers; methods are collective."""

    def __init__(self, folder: Path, ranks: Ranks, *, background: bool = False) -> None:
        super().__init__(folder, background=background)
        self.ranks = ranks
        self._group = writers(ranks)
        self._intact: dict[str, str] = {}

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

    def _load_directory(self, path: Path, into: Mapping[str, Tensor]) -> None:
        state_dict_loader.load(dict(into), checkpoint_id=path, process_group=self._group)

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


def store_at(folder: Path, ranks: Ranks, *, background: bool = False) -> Store:
    """Return the store for one process (a file) or for several (a directory)."""
    if ranks.world == 1:
        return FileStore(folder, background=background)
    return ShardStore(folder, ranks, background=background)
