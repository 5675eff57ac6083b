"""Which layers each of several workers takes: consecutive ones, about equal work for each."""

from __future__ import annotations

import math
from collections.abc import Sequence

from puzzledsl.bld.order import Order
from puzzledsl.ir.nodes import Shape
from puzzledsl.plan.shapes import attention_shapes, mlp_shapes


def spans(work: Sequence[float], workers: int) -> tuple[tuple[int, int], ...]:
    """(first, end) of each worker's layers: all layers, in order, none twice; no worker without a layer.

    Fewer spans than `workers` where there are fewer layers. The largest sum of `work` in a span is the least possible.
    """
    count = min(workers, len(work))
    low, high = max(work), sum(work)
    for _ in range(60):  # the least limit that `count` spans can keep; 60 halvings are float64's precision
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
    """Spans filled one after the other up to `limit` (which no single layer exceeds)."""
    found, first, total = [], 0, 0.0
    for layer, amount in enumerate(work):
        if total + amount > limit and layer > first:
            found.append((first, layer))
            first, total = layer, 0.0
        total += amount
    return [*found, (first, len(work))]


def work_of(order: Order, shape: Shape) -> list[float]:
    """FLOP a token of each layer that an order needs: the parent's forward (2 a weight), pieces forward and back (6)."""
    own = [*attention_shapes(shape, shape.kv_heads).values(), *mlp_shapes(shape, shape.intermediate).values()]
    work = [2.0 * sum(map(math.prod, own))] * (order.last_layer + 1)
    for job in order.jobs:
        work[job.layer] += 6.0 * sum(map(math.prod, job.shapes.values()))
    return work
