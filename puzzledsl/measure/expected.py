"""Expected times of alternatives up to a common factor: a prior for times that whole models leave open.

A decode step reads weights and KV cache; a prefill computes, or reads the weights where that takes longer. The two are made
comparable by a round number of FLOP a byte, which only the prior rests on.
"""

from __future__ import annotations

from puzzledsl.alternatives.alternative import Alternative
from puzzledsl.costs.flops import fixed_flop, fixed_size
from puzzledsl.ir.nodes import Shape, Space
from puzzledsl.measure.estimate import FIXED, Key
from puzzledsl.measure.host import alternatives_of, kind_of
from puzzledsl.measure.sizes import Widths, head_bytes, sizes_of
from puzzledsl.measure.whole import Workload

FLOP_PER_BYTE = 10.0


def expected_times(
    shape: Shape, space: Space, workload: Workload, stored: Widths
) -> tuple[dict[Key, float], dict[Key, float]]:
    """Return the expected times of prefill and of a decode step, in bytes: of every alternative and the fixed part."""
    head = float(fixed_size(shape).params * stored.weight)
    flop = fixed_flop(shape, workload)
    prefill: dict[Key, float] = {FIXED: max(head, flop / FLOP_PER_BYTE)}
    decode: dict[Key, float] = {FIXED: max(head, flop / FLOP_PER_BYTE)}
    if space.ends is not None:
        prefill, decode = {}, {}
        for name, (_, output) in space.ends.by_name().items():
            time = max(float(head_bytes(shape, stored, output)), flop / FLOP_PER_BYTE)
            prefill["ends", name] = decode["ends", name] = time
    first = {kind: layers[0] for kind, (_, layers) in enumerate(shape.kinds())}
    for sub_block, labels in alternatives_of(space, shape).items():
        for name, alternative in labels.items():
            own = shape.at(first[kind_of(name)])
            prefill[sub_block, name], decode[sub_block, name] = _times(own, alternative, workload, stored)
    return prefill, decode


def _times(shape: Shape, alternative: Alternative, workload: Workload, stored: Widths) -> tuple[float, float]:
    sizes = sizes_of(shape, alternative, workload, stored)
    read = float(sizes["weights_bytes"])
    return (
        max(read, sizes["prefill_flop"] / FLOP_PER_BYTE),
        max(read + sizes["kv_cache_bytes"], sizes["decode_flop"] / FLOP_PER_BYTE),
    )
