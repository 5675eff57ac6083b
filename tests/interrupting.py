"""A user who presses Ctrl-C in the middle, and what is left then."""

from __future__ import annotations

from pathlib import Path

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


def pieces_of(library: Path) -> list[Piece]:
    """The pieces that the index of a library names."""
    return [*Index(library / "index.jsonl").read().values()]


def faults(library: Path) -> list[str]:
    """The files of a library that are not those of its index."""
    return [piece.file for piece in pieces_of(library) if sha256_of(library / piece.file) != piece.sha256]
