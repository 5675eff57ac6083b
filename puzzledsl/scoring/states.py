"""Final hidden states (or KLs by position) of every replacement, in a file, for pairwise terms and fits.

Rows survive an interrupted run: a row is on the disk before the replacement's entry in `FiguresCache`.
Shapes: R replacements, P positions, H hidden.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from puzzledsl.scoring.measures import Divergence, Figures, Measure


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


@dataclass(frozen=True, kw_only=True)
class Kept:
    """Data by replacement that pairwise terms and fits need besides the metrics."""

    positions: int = 0
    """Number of positions that pairwise terms are means over; their final hidden states after the last norm are kept."""
    kls: bool = False
    """True if the KL divergence at every scored position is kept."""

    def put(self, row: int, states_PH: Tensor, kl_P: Tensor) -> None:
        """Do nothing: there are no files here."""

    def of(self, measure: Measure, normed: Sequence[Tensor]) -> tuple[Figures, Tensor, Tensor]:
        """Return a replacement's metrics, final states [P, H] and KLs [P]; the latter two are empty where they are not kept."""
        if not self.kls:
            return measure.figures(normed), self.states_of(measure, normed), torch.empty(0)
        assert isinstance(measure, Divergence)
        figures, kl_P = measure.measured(normed)
        return figures, self.states_of(measure, normed), kl_P

    def states_of(self, measure: Measure, normed: Sequence[Tensor]) -> Tensor:
        """Return the states at the positions that pairwise terms are means over, [P, H]; empty without pairwise terms."""
        if not self.positions:
            return torch.empty(0)
        assert isinstance(measure, Divergence)
        return measure.states_of(normed)[: self.positions]


@dataclass(frozen=True)
class Rows(Kept):
    """Files of the data that are kept: `states` if there are positions, `kl` if KLs are kept."""

    states: States | None = None
    kl: States | None = None

    @classmethod
    def at(cls, work: Path, kept: Kept, count: int, samples: int, hidden: int) -> Rows:
        """Open the files for `count` replacements in `work`."""
        return cls(
            states=States(work / "states.bin", count, kept.positions, hidden) if kept.positions else None,
            kl=States(work / "kls.bin", count, samples, 1) if kept.kls else None,
            positions=kept.positions,
            kls=kept.kls,
        )

    def put(self, row: int, states_PH: Tensor, kl_P: Tensor) -> None:
        """Write a replacement's row in each file; on return it is on the disk."""
        if self.states is not None:
            self.states.put(row, states_PH)
        if self.kl is not None:
            self.kl.put(row, kl_P)
