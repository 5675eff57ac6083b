"""Storage for the tensors of an unfinished run, with a checksum of every file: a set that is torn or changed is never read.

Any number of processes reads what one, or several, wrote.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar
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
from puzzledsl.uptrain.ranks import SINGLE_PROCESS, Ranks, first_row, local

SUFFIX = ".safetensors"
T = TypeVar("T")


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


class Store:
    """Named sets of named tensors, each with notes. A set is stored completely or not at all.

    One process writes a safetensors file, without pickle; several write a directory of torch.distributed.checkpoint. Rank 0 alone
    writes and reads pointers. Methods are collective.
    """

    def __init__(self, folder: Path, ranks: Ranks = SINGLE_PROCESS) -> None:
        self.folder, self.ranks = folder, ranks

    def save(self, key: str, tensors: Mapping[str, Tensor], notes: dict[str, str]) -> None:
        """Save a set; it replaces an older one of this key."""
        target = self.folder / self.ranks.from_first(partial(fresh_name, self.folder, key))
        if self.ranks.world == 1:
            path = target.with_name(target.name + SUFFIX)
            with replacing(path) as temporary:
                held = {name: local(value.detach()).contiguous().cpu() for name, value in tensors.items()}
                save_file(held, temporary, notes)
                digest = sha256_of(temporary)
            Pointer(path.name, notes, {path.name: digest}).write(self.folder, key)
            return
        state_dict_saver.save(dict(tensors), checkpoint_id=target)
        own = {path.name: sha256_of(path) for path in target.glob(f"__{self.ranks.rank}_*")}
        each: list[dict[str, str]] = [{} for _ in range(self.ranks.world)]
        dist.all_gather_object(each, own)
        if self.ranks.leads:
            of_all = {name: checksum for part in each for name, checksum in part.items()}
            of_all[".metadata"] = sha256_of(target / ".metadata")
            Pointer(target.name, notes, of_all).write(self.folder, key)

    def contents(self, key: str) -> tuple[set[str], dict[str, str]] | None:
        """Return the names of a set's tensors, and its notes; None if there is no readable set."""
        if (pointer := self._checked(key)) is None:
            return None
        names = self.ranks.from_first(partial(names_in, self.folder, pointer))
        return None if names is None else (names, pointer.notes)

    @torch.no_grad()
    def load(self, key: str, into: Mapping[str, Tensor]) -> None:
        """Load a set's values into these of its tensors. Raises DiagnosticError (UnfinishedWorkDamaged)."""
        if (pointer := self._checked(key)) is None:
            path = self.folder / f"{key}.json"
            raise DiagnosticError(UnfinishedWorkDamaged(None, path=path, folder=self.folder))
        path, alone = self.folder / pointer.name, self.ranks.world == 1
        if pointer.is_file:
            load_file(path, into)
            return
        here = {name: local(tensor) if alone else tensor for name, tensor in into.items()}
        with catch_warnings():
            simplefilter("ignore", UserWarning)  # that this is a single process
            state_dict_loader.load(here, checkpoint_id=path, no_dist=alone)

    def _checked(self, key: str) -> Pointer | None:
        """Return the pointer of an intact set. Each process checks its share of the files."""
        pointer = self.ranks.from_first(partial(Pointer.read, self.folder, key))
        if pointer is None:
            return None
        mine = sorted(pointer.files(self.folder).items())[self.ranks.rank :: self.ranks.world]
        bad = sum(not is_intact(path, checksum) for path, checksum in mine)
        return None if self.ranks.sum([float(bad)])[0] else pointer
