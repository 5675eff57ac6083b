"""Progress that remembers or ends a run, as a user does who presses Ctrl-C in the middle, and what is left then."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from puzzledsl.base.files import sha256_of
from puzzledsl.base.progress import Silent
from puzzledsl.ir.tables import Piece
from puzzledsl.pieces.store.index import Index


class Interrupting(Silent):
    """Progress that ends the run when some units are done."""

    def __init__(self, after: int) -> None:
        self.left = after

    def advance(self, amount: int = 1, **figures: float | str) -> None:
        self.left -= amount
        if self.left < 0:
            raise KeyboardInterrupt


class Interrupted(Exception):
    """Exception that a test's progress raises to stop a stage."""


@dataclass
class Recorder(Silent):
    """A progress that remembers, and that stops the stage after `limit` advances of the task `of`."""

    limit: int | None = None
    of: str = ""
    task: str = ""
    advanced: int = 0
    events: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def start(self, task: str, total: int) -> None:
        self.task, self.advanced = task, 0
        self.events.append(("start", {"task": task, "total": total}))

    def advance(self, amount: int = 1, **figures: float | str) -> None:
        self.advanced += amount
        if self.limit is not None and self.of in self.task and self.advanced >= self.limit:
            raise Interrupted

    def log(self, event: str, **fields: object) -> None:
        self.events.append((event, fields))

    def named(self, event: str) -> list[dict[str, Any]]:
        return [fields for name, fields in self.events if name == event]


def pieces_of(library: Path) -> list[Piece]:
    """The pieces that the index of a library names."""
    return [*Index(library / "index.jsonl").read().values()]


def faults(library: Path) -> list[str]:
    """The files of a library that are not those of its index."""
    return [piece.file for piece in pieces_of(library) if sha256_of(library / piece.file) != piece.sha256]
