"""State of an unfinished training run: weights, moments of AdamW, progress. Training draws no random numbers.

Each process writes its rows of every tensor to a safetensors file of its own. Any number of processes reads them. A checksum of
every file guards them: a set that is torn or changed is never read.
"""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.base.files import make_directory, read_sealed, sha256_of, write_sealed
from puzzledsl.base.frozen import Record
from puzzledsl.models.errors import UnfinishedWorkDamaged
from puzzledsl.uptrain.ranks import SINGLE_PROCESS, Ranks, first_row, local


class Store:
    """Named sets of named tensors, each with notes. A set is stored completely or not at all. Methods are collective.

    `KEY.json`, which is sealed, says the `number` of the present set, its `notes`, and the `checksums` of each process's file, in
    their order. It is replaced once a new set is complete; until then, the old set is the present one.
    """

    def __init__(self, folder: Path, ranks: Ranks = SINGLE_PROCESS) -> None:
        self.folder, self.ranks = folder, ranks

    def save(self, key: str, tensors: Mapping[str, Tensor], notes: dict[str, str]) -> None:
        """Save a set; it replaces an older one of this key."""
        number = self.ranks.from_first(lambda: self._next_number(key))
        name = f"{key}-{number}-{self.ranks.rank}.safetensors"
        make_directory(self.folder)
        held = {each: local(value.detach()).contiguous().cpu() for each, value in tensors.items()}
        save_file(held, path := self.folder / name)
        with path.open("rb+") as file:
            os.fsync(file.fileno())
        checksums = dict(self.ranks.gather((name, sha256_of(path))))
        if self.ranks.leads:
            content = {"number": number, "notes": notes, "checksums": checksums}
            write_sealed(self.folder / f"{key}.json", json.dumps(content))
            self._remove_others(key, checksums)

    def contents(self, key: str) -> tuple[set[str], dict[str, str]] | None:
        """Return the names of a set's tensors, and its notes; None if there is no intact set."""
        if (present := self._checked(key)) is None:
            return None
        with ExitStack() as stack:
            files = self._opened(present, stack)
            return {name for file in files for name in file.keys()}, present["notes"]  # noqa: SIM118

    @torch.no_grad()
    def load(self, key: str, into: Mapping[str, Tensor]) -> None:
        """Load the set `key` into the tensors `into`, by name. Raises DiagnosticError (UnfinishedWorkDamaged)."""
        if (present := self._checked(key)) is None:
            path = self.folder / f"{key}.json"
            raise DiagnosticError(UnfinishedWorkDamaged(None, path=path, folder=self.folder))
        with ExitStack() as stack:
            files = [(file, set(file.keys())) for file in self._opened(present, stack)]
            for name, tensor in into.items():
                _fill(tensor, name, [file for file, names in files if name in names])

    def _next_number(self, key: str) -> int:
        """Return the number of the next set; what an interrupted write left is removed."""
        present = self._present(key)
        self._remove_others(key, () if present is None else present["checksums"])
        return 0 if present is None else int(present["number"]) + 1

    def _remove_others(self, key: str, kept: Iterable[str]) -> None:
        for path in self.folder.glob(f"{key}-*.safetensors"):
            if path.name not in kept:
                path.unlink(missing_ok=True)

    def _present(self, key: str) -> dict[str, Any] | None:
        content = read_sealed(self.folder / f"{key}.json")
        return None if content is None else dict(json.loads(content))

    def _checked(self, key: str) -> dict[str, Any] | None:
        """Return the present set if it is intact. Each process checks its share of the files."""
        present = self.ranks.from_first(lambda: self._present(key))
        if present is None:
            return None
        mine = list(present["checksums"].items())[self.ranks.rank :: self.ranks.world]
        files = [(self.folder / name, checksum) for name, checksum in mine]
        bad = sum(not path.is_file() or sha256_of(path) != checksum for path, checksum in files)
        return None if self.ranks.sum([float(bad)])[0] else present

    def _opened(self, present: dict[str, Any], stack: ExitStack) -> list[Any]:
        return [stack.enter_context(safe_open(self.folder / name, "pt")) for name in present["checksums"]]


def _fill(tensor: Tensor, name: str, files: Sequence[Any]) -> None:
    """Fill a tensor, or this process's rows of it, from the rows that each process wrote. A scalar is the same in all."""
    own = local(tensor)
    if not own.ndim:
        own.copy_(files[0].get_tensor(name))
        return
    first, reached = first_row(tensor) if isinstance(tensor, DTensor) else 0, 0
    for rows in (file.get_slice(name) for file in files):
        begin, end = reached, reached + rows.get_shape()[0]
        low, high = max(begin, first), min(end, first + len(own))
        if low < high:
            own[low - first : high - first].copy_(rows[low - begin : high - begin])
        reached = end


@dataclass(slots=True)
class TrainingProgress:
    """Progress of a training: steps done, and the held-out KL at each evaluation so far, by step."""

    step: int = 0
    heldout: dict[int, float] = field(default_factory=dict)

    @property
    def best_step(self) -> int:
        """The step with the lowest held-out KL; the earliest of equals."""
        return min(self.heldout, key=lambda step: (self.heldout[step], step))


STATE, BEST = "state", "best"


class TrainingState(Record):
    """All state that changes in training: weights and moments; and the store of the last state and of the best weights."""

    model: nn.Module
    optimizer: torch.optim.AdamW
    store: Store

    def save(self, done: TrainingProgress) -> None:
        """Save everything that a run needs to resume exactly."""
        heldout = {str(step): kl for step, kl in done.heldout.items()}
        self.store.save(STATE, self.tensors(), {"step": str(done.step), "heldout": json.dumps(heldout)})

    def load(self) -> TrainingProgress | None:
        """Restore a saved run and return its progress; None, and nothing changed, if nothing is saved that fits the model."""
        found = self.store.contents(STATE)
        if found is None:
            return None
        names, notes = found
        if not {f"weight/{name}" for name, _ in self.model.named_parameters()} <= names:
            return None
        self._make_room(names)
        tensors = {name: value for name, value in self.tensors().items() if name in names}
        self.store.load(STATE, tensors)
        heldout = {int(step): kl for step, kl in json.loads(notes["heldout"]).items()}
        return TrainingProgress(int(notes["step"]), heldout)

    def tensors(self) -> dict[str, Tensor]:
        """Return every present tensor under its name in the file."""
        found: dict[str, Tensor] = {}
        for name, weight in self.model.named_parameters():
            found[f"weight/{name}"] = weight.detach()
            for moment, value in self.optimizer.state.get(weight, {}).items():
                found[f"{moment}/{name}"] = value
        return found

    def weights(self) -> dict[str, Tensor]:
        """Return the weights, which are all that is kept of the best state."""
        return {name: weight.detach() for name, weight in self.model.named_parameters()}

    def _make_room(self, names: set[str]) -> None:
        """Allocate the optimiser moments that a file contains."""
        for name, weight in self.model.named_parameters():
            if f"step/{name}" in names:
                self.optimizer.state[weight] = {
                    "step": torch.zeros((), dtype=torch.float32, device=weight.device),
                    "exp_avg": torch.zeros_like(weight.detach()),
                    "exp_avg_sq": torch.zeros_like(weight.detach()),
                }
