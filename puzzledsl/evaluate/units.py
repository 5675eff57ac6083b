"""Units of an evaluation: one text, task or scenario of one model. Each is measured by itself and kept as soon as it is done."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from puzzledsl.base.checksums import read_sealed, write_sealed
from puzzledsl.base.diagnostics import Diagnostic
from puzzledsl.base.files import sha256_of
from puzzledsl.base.frozen import Frozen
from puzzledsl.evaluate.divergence import BlockFigures
from puzzledsl.evaluate.plan import Plan
from puzzledsl.evaluate.speed import ROUNDS, Speed
from puzzledsl.ir.tables import Answer

METHOD = "5"  # raise it when a figure's meaning changes, so that unfinished work is not continued
PARENT = "parent"
Kind = Literal["text", "task", "harness", "answers", "speed"]
SPARED = ("harness", "speed")
"""Kinds of units that an evaluation does without if they cannot be measured: data sets that are not there, models too large."""


@dataclass(frozen=True, slots=True)
class Unit:
    """A part of the evaluation of the model in `directory`. `of`: name of the text, task or scenario; empty for other units."""

    model: str
    directory: Path
    kind: Kind
    of: str
    size: int
    """Blocks, items, prompts or rounds, as progress counts them."""


class Found(Frozen):
    """Figures of a unit: by block of a text, by item of tasks (`chances`: what guessing gives), by prompt, or a speed."""

    params: int = 0
    stored_bytes: int = 0  # of a file; 0: those of the directory
    blocks: tuple[BlockFigures, ...] = ()
    right: dict[str, tuple[float, ...]] = {}
    chances: dict[str, tuple[float, ...]] = {}
    answers: tuple[Answer, ...] = ()
    speed: Speed | None = None


def units_of(plan: Plan, model: str, directory: Path, *, full: bool) -> list[Unit]:
    """Return the units of one model; only those of a model in full have tasks and times."""
    found = [Unit(model, directory, "text", text.name, len(text.blocks_NT)) for text in plan.texts]
    if full:
        found += [Unit(model, directory, "task", task.name, len(task.items)) for task in plan.tasks]
        if plan.harness is not None:
            found.append(Unit(model, directory, "harness", "", 0))
        if plan.prompts:
            found.append(Unit(model, directory, "answers", "", len(plan.prompts)))
        found += [Unit(model, directory, "speed", timed.scenario, ROUNDS + 1) for timed in plan.timed]
    return found


@dataclass(frozen=True, slots=True)
class Refused:
    """A unit that could not be measured, with the mistakes that are the reason."""

    diagnostics: tuple[Diagnostic, ...]


class Store:
    """Finished units in a folder, by a digest of everything that they depend on."""

    def __init__(self, folder: Path, plan: Plan, parent_dir: Path) -> None:
        self._folder, self._plan, self._parent_dir = folder, plan, parent_dir
        self._hashes: dict[Path, str] = {}

    def read(self, unit: Unit) -> Found | None:
        """Return a finished unit; None if it is not finished, or its file is damaged."""
        content = read_sealed(self._path(unit))
        try:
            return None if content is None else Found.from_json(content)
        except ValidationError:  # another version's
            return None

    def write(self, unit: Unit, found: Found) -> None:
        """Keep a finished unit."""
        write_sealed(self._path(unit), found.canonical_json())

    def _path(self, unit: Unit) -> Path:
        digest = hashlib.sha256()
        for part in self._parts(unit):
            digest.update(part if isinstance(part, bytes) else f"{part}\n".encode())
        return self._folder / f"{unit.model}-{digest.hexdigest()[:16]}.json"

    def _parts(self, unit: Unit) -> Iterator[str | bytes]:
        plan = self._plan
        yield from (METHOD, unit.model, unit.kind, unit.of)
        yield from (self._hash(unit.directory), self._hash(self._parent_dir))
        match unit.kind:
            case "text":
                (text,) = (text for text in plan.texts if text.name == unit.of)
                yield text.blocks_NT.numpy().tobytes()
                if text.learned_NT is not None:
                    yield text.learned_NT.numpy().tobytes()
            case "task":
                yield from (repr(task) for task in plan.tasks if task.name == unit.of)
                yield str(plan.declaration.dtype)
            case "harness":
                yield from (repr(plan.harness), str(plan.declaration.dtype))
            case "answers":
                yield repr([prompt.ids for prompt in plan.prompts])
            case "speed":
                yield repr(plan.timed)

    def _hash(self, directory: Path) -> str:
        """Return the digests of a checkpoint's weights and config."""
        if directory not in self._hashes:
            files = sorted(
                p for p in directory.iterdir() if p.suffix == ".safetensors" or p.name == "config.json"
            )
            self._hashes[directory] = " ".join(sha256_of(path) for path in files)
        return self._hashes[directory]
