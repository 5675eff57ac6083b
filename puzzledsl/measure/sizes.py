"""Sizes of an alternative in a workload, exactly, not measured."""

from __future__ import annotations

import torch

from puzzledsl.alternatives.alternative import Alternative
from puzzledsl.costs.dtypes import STATE_BYTES
from puzzledsl.costs.flops import sub_block_flop
from puzzledsl.ir.nodes import Shape
from puzzledsl.measure.whole import Workload


def sizes_of(
    shape: Shape, alternative: Alternative, workload: Workload, dtype: torch.dtype
) -> dict[str, int]:
    """Return parameters, bytes and FLOP in one layer, exactly. A window caps the cache: a runtime frees older tokens."""
    params = alternative.size(shape).params
    prefill_flop, decode_flop = sub_block_flop(shape, alternative, workload)
    length = workload.prompt + workload.output
    if (window := alternative.attended(shape)) is not None:
        length = min(length, window)
    per_token = 2 * alternative.cached_heads(shape) * shape.head_dim * dtype.itemsize
    state = alternative.state_size(shape)
    kept = state.conv * dtype.itemsize + state.scan * int(STATE_BYTES)
    return {
        "params": params,
        "weights_bytes": params * dtype.itemsize,
        "kv_cache_bytes": workload.batch * (length * per_token + kept),
        "prefill_flop": prefill_flop,
        "decode_flop": decode_flop,
    }
