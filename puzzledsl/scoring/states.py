"""Final hidden states (or KLs by position) of every replacement, in a file, for pairwise terms and fits.

Rows survive an interrupted run: a row is on the disk before the replacement's entry in `FiguresCache`.
Shapes: R replacements, P positions, H hidden.
"""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import Tensor


class States:
    """A file of float32 [R, P, H] with one row for each replacement, never wholly in memory. H = 1 for a number per position."""

    def __init__(self, path: Path, replacements: int, positions: int, hidden: int) -> None:
        """Open the file; create it, filled with zeros, if it is missing or has another size."""
        self._path, self._shape = path, (replacements, positions, hidden)
        self.positions = positions
        size = 4 * replacements * positions * hidden
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.is_file() or path.stat().st_size != size:
            with path.open("wb") as file:
                file.truncate(size)

    def put(self, row: int, normed_PH: Tensor) -> None:
        """Write one row [P, H] (any shape of as many values); on return it is on the disk."""
        _, positions, hidden = self._shape
        content = normed_PH.detach().to("cpu", torch.float32).reshape(positions, hidden).contiguous()
        with self._path.open("r+b") as file:
            file.seek(4 * row * positions * hidden)
            file.write(content.numpy().tobytes())
            file.flush()
            os.fsync(file.fileno())

    def all(self) -> Tensor:
        """Return all rows, [R, P, H], memory-mapped."""
        replacements, positions, hidden = self._shape
        size = replacements * positions * hidden
        return torch.from_file(str(self._path), shared=False, size=size, dtype=torch.float32).view(
            self._shape
        )
