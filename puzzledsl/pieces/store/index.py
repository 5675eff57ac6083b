"""The index of a block library, one `ir.tables.Piece` per line, appended and fsynced; and its maintenance. Loads no torch.

A process that is killed while appending leaves at most one line without its newline. Readers ignore it, and the next
writer cuts it off before appending, so that no later line is joined to it.
"""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.base.files import write_bytes
from puzzledsl.ir.tables import Piece, line_of_piece, piece_of_line
from puzzledsl.pieces.errors import IndexDamaged


class Index:
    """The file `index.jsonl`. Several processes of one machine can append to it safely."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> dict[str, Piece]:
        """Return the pieces by job id; the last line of a job counts. Raises DiagnosticError for a damaged line."""
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return {}
        pieces: dict[str, Piece] = {}
        for number, line in enumerate(content[: _complete(content)].splitlines(), 1):
            try:
                piece = piece_of_line(line)
            except ValueError as error:
                reason = str(error).splitlines()[0]
                problem = IndexDamaged(None, line=number, file=self.path, reason=reason)
                raise DiagnosticError(problem) from error
            pieces[piece.job.id] = piece
        return pieces

    def append(self, piece: Piece) -> None:
        """Append one line and flush it to disk."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._lock(), self.path.open("ab+") as file:
            file.seek(0)
            content = file.read()
            if (complete := _complete(content)) < len(content):
                file.truncate(complete)
            file.write(line_of_piece(piece))
            file.flush()
            os.fsync(file.fileno())

    def rewrite(self) -> None:
        """Rewrite the index in canonical form: sorted by job id, one line per job. Leaves a canonical file unchanged."""
        with self._lock():
            self._write(self.read())

    def remove(self, ids: Collection[str]) -> None:
        """Remove these jobs' lines and rewrite the rest in canonical form."""
        if ids:
            with self._lock():
                self._write({id: piece for id, piece in self.read().items() if id not in ids})

    def _write(self, pieces: Mapping[str, Piece]) -> None:
        canonical = b"".join(line_of_piece(piece) for _, piece in sorted(pieces.items()))
        if not self.path.exists() or self.path.read_bytes() != canonical:
            write_bytes(self.path, canonical)

    def _lock(self) -> FileLock:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        return FileLock(self.path.parent / ".index.lock")


def _complete(content: bytes) -> int:
    """Return the number of bytes of `content` in complete lines."""
    return content.rfind(b"\n") + 1


@dataclass(frozen=True, slots=True)
class Freed:
    """Contents of a clean-up: pieces that no plan needs, and files that the index does not name."""

    pieces: tuple[Piece, ...]
    strays: tuple[str, ...]
    size_bytes: int


def unneeded(root: Path, needed: Collection[str]) -> Freed:
    """Return the pieces whose job ids are not `needed`, and safetensors files that no index line names."""
    pieces = sorted(Index(root / "index.jsonl").read().values(), key=_place)
    gone = tuple(piece for piece in pieces if piece.job.id not in needed)
    named = {piece.file for piece in pieces}
    on_disk = {path.name for path in root.glob("*.safetensors")} if root.is_dir() else set()
    strays = tuple(sorted(on_disk - named))
    files = [root / name for name in (*(piece.file for piece in gone), *strays)]
    return Freed(gone, strays, sum(path.stat().st_size for path in files if path.is_file()))


def _place(piece: Piece) -> tuple[int, str, int, str]:
    weights = sum(math.prod(shape) for shape in piece.job.shapes.values())
    return piece.job.layer, piece.job.sub_block, -weights, piece.job.id


def remove(root: Path, freed: Freed) -> None:
    """Remove what `unneeded` found: index lines first, so that a piece in the index always has its file."""
    Index(root / "index.jsonl").remove({piece.job.id for piece in freed.pieces})
    for name in [*(piece.file for piece in freed.pieces), *freed.strays]:
        (root / name).unlink(missing_ok=True)
