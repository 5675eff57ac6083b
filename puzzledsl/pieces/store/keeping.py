"""Maintenance of a library: list, verify and clean up its pieces. Loads no torch."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from puzzledsl.ir.tables import Piece
from puzzledsl.pieces.store.index import Index


@dataclass(frozen=True, slots=True)
class Fault:
    """A file of the library that does not match its index."""

    file: str
    reason: str


@dataclass(frozen=True, slots=True)
class Freed:
    """Contents of a clean-up: pieces that no plan needs, and files that the index does not name."""

    pieces: tuple[Piece, ...]
    strays: tuple[str, ...]
    size_bytes: int


def pieces_of(root: Path) -> tuple[Piece, ...]:
    """Return every piece in the index: by layer, sub-block, weights (largest first), job id. Raises DiagnosticError."""
    pieces = Index(root / "index.jsonl").read().values()
    return tuple(sorted(pieces, key=_place))


def _place(piece: Piece) -> tuple[int, str, int, str]:
    weights = sum(math.prod(shape) for shape in piece.job.shapes.values())
    return piece.job.layer, piece.job.sub_block, -weights, piece.job.id


def size_of(root: Path, piece: Piece) -> int | None:
    """Return the bytes of a piece's file; None if it is missing."""
    try:
        return (root / piece.file).stat().st_size
    except OSError:
        return None


def faults(root: Path) -> tuple[Fault, ...]:
    """Return every piece whose file is missing or has another hash. Reads the whole library. Raises DiagnosticError."""
    found = []
    for piece in pieces_of(root):
        try:
            with (root / piece.file).open("rb") as file:
                whole = hashlib.file_digest(file, "sha256").hexdigest() == piece.sha256
            reason = "" if whole else "its SHA-256 is not the one in the index"
        except OSError as error:
            reason = f"it cannot be read ({error.strerror})"
        if reason:
            found.append(Fault(piece.file, reason))
    return tuple(found)


def unneeded(root: Path, needed: Collection[str]) -> Freed:
    """Return the pieces whose job ids are not `needed`, and safetensors files that no index line names."""
    pieces = pieces_of(root)
    gone = tuple(piece for piece in pieces if piece.job.id not in needed)
    named = {piece.file for piece in pieces}
    on_disk = {path.name for path in root.glob("*.safetensors")} if root.is_dir() else set()
    strays = tuple(sorted(on_disk - named))
    sizes = [size_of(root, piece) or 0 for piece in gone] + [(root / name).stat().st_size for name in strays]
    return Freed(gone, strays, sum(sizes))


def remove(root: Path, freed: Freed) -> None:
    """Remove what `unneeded` found: index lines first, so that a piece in the index always has its file."""
    Index(root / "index.jsonl").remove({piece.job.id for piece in freed.pieces})
    for name in [*(piece.file for piece in freed.pieces), *freed.strays]:
        (root / name).unlink(missing_ok=True)
