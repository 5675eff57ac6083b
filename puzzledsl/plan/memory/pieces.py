"""Bytes of pieces in training.

A piece's optimiser holds, a weight, the float32 weight and AdamW's two moments. Gradients of one layer's pieces exist at a time.
The best and the initial weights lie in the host's memory. A piece that is optimal as it starts holds its weights only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from puzzledsl.alternatives.alternative import Alternative
from puzzledsl.families.registry import FAMILIES
from puzzledsl.ir.nodes import Shape
from puzzledsl.ir.tables import BldJob
from puzzledsl.plan.bld import Kind
from puzzledsl.plan.refinement import is_frozen

WEIGHT, MOMENTS, GRADIENT, KEPT = 4, 8, 4, 8
"""Bytes a weight in training, float32: the weight, its moments, its gradient; and the initial and the best value on the host."""


def weights_of(job: BldJob) -> int:
    """Return the number of a piece's weights."""
    return sum(math.prod(shape) for shape in job.shapes.values())


def is_trained(job: BldJob, shape: Shape) -> bool:
    """Return False for a piece that is optimal as it starts, that is frozen, or whose BLD trains nothing."""
    alternative: Alternative | None = job.attention or job.ffn
    assert alternative is not None
    if all(is_frozen(part) for part in (job.attention, job.ffn) if part is not None):
        return False
    if not job.tokens or job.sub_block == "block":
        return bool(job.tokens)
    return has_norm_behind(shape.at(job.layer), job.sub_block) or not alternative.is_solved(job.init)


def has_norm_behind(own: Shape, sub_block: Kind) -> bool:
    """Return True if a piece's output goes through a norm of the parent's, in a layer of this shape."""
    if sub_block == "block":
        return False
    part = FAMILIES[own.family].names(own).of(sub_block)
    return part is not None and part.behind is not None


def resident_bytes(jobs: Sequence[BldJob], shape: Shape, *, on_host: bool) -> int:
    """Return the bytes that pieces hold between steps; `on_host`: the device is the host, which holds all of it."""
    each = WEIGHT + MOMENTS + (KEPT if on_host else 0)
    return sum(weights_of(job) * (each if is_trained(job, shape) else WEIGHT) for job in jobs)


def kept_bytes(jobs: Sequence[BldJob], shape: Shape) -> int:
    """Return the bytes of the host that hold the best weights of a GPU's pieces; the initial ones are on the disk."""
    return KEPT // 2 * sum(weights_of(job) for job in jobs if is_trained(job, shape))
