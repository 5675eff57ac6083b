"""Pieces that do not all fit in memory at once are made in several passes over the text: each trains some of every layer's."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

from puzzledsl.bld.order import Order
from puzzledsl.ir.tables import BldJob
from puzzledsl.plan.pipeline import filled


def passes(order: Order, layer_bytes: float) -> list[Order] | None:
    """The order in as few parts as keep each layer's pieces within `layer_bytes`; None where a single piece does not fit.

    Each part has a place of its own for unfinished work, named after its jobs: parts that are finished, and left out when
    the run is started again, do not move it.
    """
    parts: list[list[BldJob]] = []
    for layer in range(order.last_layer + 1):
        here = filled([job for job in order.jobs if job.layer == layer], layer_bytes)
        if here is None:
            return None
        parts += [[] for _ in range(len(here) - len(parts))]
        for part, jobs in zip(parts, here, strict=False):
            part.extend(jobs)
    return [_part(order, jobs) for jobs in parts]


def _part(order: Order, jobs: Sequence[BldJob]) -> Order:
    name = hashlib.sha256("\n".join(job.id for job in jobs).encode()).hexdigest()[:12]
    return replace(order, jobs=jobs, work=order.work / f"pass-{name}")


def has_begun(order: Order) -> bool:
    """Whether a pass of an earlier run has left unfinished work."""
    return any(order.work.glob("pass-*"))
