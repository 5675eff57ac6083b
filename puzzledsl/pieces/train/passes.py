"""Split BLD into several passes over the text when not all pieces fit in memory; each pass trains some pieces of every layer."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

from puzzledsl.ir.tables import BldJob
from puzzledsl.pieces.train.order import Order
from puzzledsl.plan.pipeline import filled


def passes(order: Order, layer_bytes: float) -> list[Order] | None:
    """Split an order into as few parts as keep each layer's pieces within `layer_bytes`; None if a single piece does not fit.

    Each part has its own work directory, named by a digest of its jobs. So a resumed run finds it again, although finished
    parts are no longer in the order.
    """
    parts: list[list[BldJob]] = []
    for layer in range(order.last_layer + 1):
        here = filled(order.jobs_of(layer), layer_bytes)
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
    """True if an earlier run has left a work directory of a pass."""
    return any(order.work.glob("pass-*"))
