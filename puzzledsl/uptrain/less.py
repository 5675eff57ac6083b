"""Smaller micro-batches and recomputed layers after running out of memory, remembered for the next start.

A process that is alone starts its step again. Of several, the others wait in a collective meanwhile, so all must be
started again: what they take then is in a file of the unfinished run.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from puzzledsl.base.checksums import read_sealed, write_sealed

NAME = "less.json"


@dataclass(frozen=True, slots=True)
class Demand:
    """Memory that a step asks for: `micro` blocks at a time, and layers that are computed once or, with `recompute`, twice."""

    micro: int
    recompute: bool

    def less(self, batch: int) -> Demand | None:
        """Return half of the blocks or, from one block on, recomputation; None if nothing is left to try."""
        if self.micro > 1:
            return Demand(min(self.micro, batch) // 2 or 1, self.recompute)
        return None if self.recompute else Demand(1, True)

    def least(self, other: Demand | None) -> Demand:
        """Return what both allow."""
        if other is None:
            return self
        return Demand(min(self.micro, other.micro), self.recompute or other.recompute)

    def sentence(self) -> str:
        """Say what comes next, after "it goes on"."""
        return "and computes layers twice" if self.recompute else f"with {self.micro} blocks at a time"


def remember(work: Path, demand: Demand) -> None:
    """Keep a demand for the next start; the least counts."""
    write_sealed(work / NAME, json.dumps(asdict(demand.least(remembered(work)))))


def remembered(work: Path) -> Demand | None:
    """Return what the last starts have left, if anything."""
    content = read_sealed(work / NAME)
    return None if content is None else Demand(**json.loads(content))
