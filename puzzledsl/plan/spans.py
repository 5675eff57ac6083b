"""Partition the layers into consecutive spans of about equal work, one for each worker (linear partition by bisection)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from puzzledsl.alternatives.parent import ParentAttention, ParentFfn
from puzzledsl.ir.nodes import Shape
from puzzledsl.ir.tables import BldJob


def spans(work: Sequence[float], workers: int) -> tuple[tuple[int, int], ...]:
    """Return (first, end) of each worker's layers. The spans cover all layers, in order, and none is empty.

    There are fewer spans than `workers` if there are fewer layers. The largest sum of `work` in a span is the least possible.
    """
    count = min(workers, len(work))
    low, high = max(work), sum(work)
    # bisect for the least limit that `count` spans can keep; 60 halvings reach float64's precision
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if len(_filled(work, middle)) <= count else (middle, high)
    found = _filled(work, high)
    while len(found) < count:  # a worker is free: split the span of several layers that has the most work
        first, end = max((s for s in found if s[1] - s[0] > 1), key=lambda s: sum(work[s[0] : s[1]]))
        middle_layer = spans(work[first:end], 2)[0][1] + first
        found[found.index((first, end)) : found.index((first, end)) + 1] = [
            (first, middle_layer),
            (middle_layer, end),
        ]
    return tuple(found)


def _filled(work: Sequence[float], limit: float) -> list[tuple[int, int]]:
    """Fill spans greedily, each up to a sum of `limit` and with at least one layer."""
    found, first, total = [], 0, 0.0
    for layer, amount in enumerate(work):
        if total + amount > limit and layer > first:
            found.append((first, layer))
            first, total = layer, 0.0
        total += amount
    return [*found, (first, len(work))]


def work_of(jobs: Sequence[BldJob], shape: Shape) -> list[float]:
    """Estimate the FLOPs per token of each layer up to the last with a job.

    2 per weight of the parent's layer (forward) and 6 per weight of its pieces (forward and backward).
    """
    work = []
    for own in shape.each[: 1 + max(job.layer for job in jobs)]:
        weights = [*ParentAttention().weights(own).values(), *ParentFfn().weights(own).values()]
        work.append(2.0 * sum(math.prod(weight.shape) for weight in weights))
    for job in jobs:
        work[job.layer] += 6.0 * sum(map(math.prod, job.shapes.values()))
    return work
