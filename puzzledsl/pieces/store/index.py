"""The index of a block library, one `ir.tables.Piece` per line, appended and fsynced. Loads no torch.

A process that is killed while appending leaves at most one line without its newline. Readers ignore it, and the next
writer cuts it off before appending, so that no later line is joined to it.
"""

import os
from pathlib import Path

from filelock import FileLock

from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.base.files import write_bytes
from puzzledsl.ir.tables import Piece, line_of_piece, piece_of_line
from puzzledsl.models.errors import IndexDamaged


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
            canonical = b"".join(line_of_piece(piece) for _, piece in sorted(self.read().items()))
            if not self.path.exists() or self.path.read_bytes() != canonical:
                write_bytes(self.path, canonical)

    def _lock(self) -> FileLock:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        return FileLock(self.path.parent / ".index.lock")


def _complete(content: bytes) -> int:
    """Return the number of bytes of `content` in complete lines."""
    return content.rfind(b"\n") + 1
