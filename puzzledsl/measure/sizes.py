"""Sizes of an alternative in a workload, exactly, not measured."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import torch

from puzzledsl.alternatives.alternative import Alternative
from puzzledsl.alternatives.ends import ParentEmbedding, ParentHead, stored_apart
from puzzledsl.alternatives.precision import PRECISIONS
from puzzledsl.alternatives.weights import Size
from puzzledsl.costs.dtypes import STATE_BYTES
from puzzledsl.costs.flops import fixed_size, sub_block_flop
from puzzledsl.ir.nodes import Shape
from puzzledsl.measure.whole import Workload


@dataclass(frozen=True, slots=True)
class Widths:
    """Bytes of a stored weight and of a cached number."""

    weight: Fraction
    cached: Fraction

    @classmethod
    def of(cls, dtype: torch.dtype) -> Widths:
        """Return those of a model in PyTorch."""
        return cls(Fraction(dtype.itemsize), Fraction(dtype.itemsize))


def sizes_of(shape: Shape, alternative: Alternative, workload: Workload, stored: Widths) -> dict[str, int]:
    """Return parameters, bytes and FLOP in one layer, exactly. A window caps the cache: a runtime frees older tokens."""
    size = alternative.size(shape)
    prefill_flop, decode_flop = sub_block_flop(shape, alternative, workload)
    length = workload.prompt + workload.output
    if (window := alternative.attended(shape)) is not None:
        length = min(length, window)
    per_token = 2 * alternative.cached_heads(shape) * shape.head_dim * stored.cached
    state = alternative.state_size(shape)
    kept = state.conv * stored.cached + state.scan * int(STATE_BYTES)
    return {
        "params": size.params,
        "weights_bytes": _weights_bytes(size, stored),
        "kv_cache_bytes": round(workload.batch * (length * per_token + kept)),
        "prefill_flop": prefill_flop,
        "decode_flop": decode_flop,
    }


def ends_bytes(shape: Shape, stored: Widths, embedding: ParentEmbedding, head: ParentHead) -> int:
    """Return the bytes of embedding, head and final norm. Tied ends of one type are one matrix."""
    ends = [_weights_bytes(end.size(shape), stored) for end in (embedding, head)]
    matrices = sum(ends) if stored_apart(embedding, head, tied=shape.tied) else max(ends)
    return matrices + round(fixed_size(shape).vectors * stored.weight)


def head_bytes(shape: Shape, stored: Widths, head: ParentHead) -> int:
    """Return the bytes of the head's matrix, which every step reads."""
    return _weights_bytes(head.size(shape), stored)


def _weights_bytes(size: Size, stored: Widths) -> int:
    """Return the bytes of a sub-block: of a quantised one, codes and scales, and what stays unquantised."""
    if size.stored is None:
        return round(size.params * stored.weight)
    precision = PRECISIONS[size.stored.dtype]
    codes = size.matrices - size.stored.plain
    scales = size.stored.scales + size.stored.expert_scales
    rest = size.params - codes
    return round(Fraction(precision.bits, 8) * codes + precision.scale_bytes * scales + rest * stored.weight)
