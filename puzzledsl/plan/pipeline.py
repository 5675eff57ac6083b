"""Assignment of pieces in training to passes by memory. Arithmetic only; `bld` executes it."""

from __future__ import annotations

import math
from collections.abc import Sequence

from puzzledsl.ir.tables import BldJob

BYTES_A_WEIGHT = 20
"""Memory of a piece in training, per weight: initial and current value, gradient and AdamW's two moments, float32 each."""


def training_bytes(jobs: Sequence[BldJob]) -> int:
    """Return the bytes that pieces need when they are trained together."""
    return BYTES_A_WEIGHT * sum(math.prod(shape) for job in jobs for shape in job.shapes.values())


def filled(jobs: Sequence[BldJob], room_bytes: float) -> list[list[BldJob]] | None:
    """Split the jobs of one layer, in order, into parts that fit `room_bytes`; None if a single job does not fit."""
    found: list[list[BldJob]] = []
    for job in jobs:
        if training_bytes([job]) > room_bytes:
            return None
        if not found or training_bytes([*found[-1], job]) > room_bytes:
            found.append([])
        found[-1].append(job)
    return found
