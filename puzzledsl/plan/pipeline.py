"""How pieces in training are shared out: into memory, in passes. Numbers only; `bld` does it."""

from __future__ import annotations

import math
from collections.abc import Sequence

from puzzledsl.ir.tables import BldJob

BYTES_A_WEIGHT = 20
"""Of a piece in training: initial and present weights, gradient and AdamW's two moments, float32 each."""


def training_bytes(jobs: Sequence[BldJob]) -> int:
    """What pieces take in memory when they are trained at once."""
    return BYTES_A_WEIGHT * sum(math.prod(shape) for job in jobs for shape in job.shapes.values())


def filled(jobs: Sequence[BldJob], room_bytes: float) -> list[list[BldJob]] | None:
    """The jobs of one layer in parts that fit, in order; None where a single one does not."""
    found: list[list[BldJob]] = []
    for job in jobs:
        if training_bytes([job]) > room_bytes:
            return None
        if not found or training_bytes([*found[-1], job]) > room_bytes:
            found.append([])
        found[-1].append(job)
    return found
