"""KL divergence of every replacement at every scored position, in a file, for fits.

Rows survive an interrupted run: a row is on the disk before the replacement's entry in `FiguresCache`.
Shapes: R replacements, P positions.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from puzzledsl.scoring.measures import Divergence, Figures, Measure


@dataclass(frozen=True)
class PositionKls:
    """KL divergences by position. They are computed only if `kept`; this base class stores none."""

    kept: bool = False

    def of(self, measure: Measure, normed: Sequence[Tensor]) -> tuple[Figures, Tensor]:
        """Return a replacement's metrics and its KLs [P], which are empty if they are not kept."""
        if not self.kept:
            return measure.figures(normed), torch.empty(0)
        assert isinstance(measure, Divergence)
        return measure.measured(normed)

    def put(self, row: int, kl_P: Tensor) -> None:
        """Do nothing: there is no file here."""


@dataclass(frozen=True)
class StoredKls(PositionKls):
    """A file of float32 [R, P] with one row for each replacement, never wholly in memory."""

    path: Path = Path()
    shape: tuple[int, int] = (0, 0)

    @classmethod
    def at(cls, path: Path, kept: PositionKls, replacements: int, positions: int) -> StoredKls:
        """Open the file, if KLs are kept; create it, filled with zeros, if it is missing or has another size."""
        size = 4 * replacements * positions
        if kept.kept and (not path.is_file() or path.stat().st_size != size):
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as file:
                file.truncate(size)
        return cls(kept.kept, path, (replacements, positions))

    def put(self, row: int, kl_P: Tensor) -> None:
        """Write a replacement's row; on return it is on the disk."""
        if not self.kept:
            return
        content = kl_P.detach().to("cpu", torch.float32).contiguous()
        with self.path.open("r+b") as file:
            file.seek(4 * row * self.shape[1])
            file.write(content.numpy().tobytes())
            file.flush()
            os.fsync(file.fileno())

    def all(self) -> Tensor:
        """Return all rows, [R, P], memory-mapped."""
        size = self.shape[0] * self.shape[1]
        return torch.from_file(str(self.path), shared=False, size=size, dtype=torch.float32).view(self.shape)
