"""Activations of a sub-block, in numbers a token, while it runs forward and while it trains; bytes of pieces in training.

Attention is counted as fused kernels compute it: without a matrix of scores, and with the keys' and values' heads not repeated.
Each count is that of the step that needs most; a test compares them with what a pretended GPU sees. K: numbers of keys, and of
values; Q: of queries; W: channels of an FFN that a token goes through; H: of the hidden state.

A piece's optimiser holds, a weight, the float32 weight and AdamW's two moments. Gradients of one layer's pieces exist at a time.
The best and the initial weights lie in the host's memory. A piece that is optimal as it starts holds its weights only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import assert_never

from puzzledsl.alternatives.alternative import Alternative
from puzzledsl.alternatives.parent import ParentAttention, ParentFfn
from puzzledsl.families.registry import FAMILIES
from puzzledsl.ir.nodes import Shape
from puzzledsl.ir.tables import BldJob
from puzzledsl.plan.bld import Kind
from puzzledsl.plan.flop import is_frozen

TRACED = 7
"""Hidden states that a layer's trace holds: what enters, input and output of both sub-blocks, the stream between, what leaves."""
BEFORE_ATTENTION, BEFORE_FFN = 2, 5
"""Those of them that exist, with what enters, when a sub-block runs."""

NORM_BYTES = 10
"""Bytes that a norm keeps for its backward pass, for each number: its input and its product in float32, its output in 16 bits."""


@dataclass(frozen=True, slots=True)
class TrainingNumbers:
    """Numbers a token that a sub-block keeps for its backward pass, and that it holds at the peak of this."""

    kept: int
    backward: int


def forward_numbers(alternative: Alternative, own: Shape) -> int:
    """Return the numbers a token that a sub-block holds at the peak of a forward pass, without its input."""
    if alternative.sub_block == "ffn":
        return 3 * _used_channels(alternative, own) + 2 * _chosen(alternative, own) * own.hidden
    if heads := alternative.query_heads(own):
        queries, keys = _attention_numbers(alternative, own, heads)
        gate = queries if own.output_gate else 0
        # rotary embedding of the queries, beside keys and values; or that of the keys
        return gate + max(4 * queries + 2 * keys, 2 * queries + 5 * keys)
    return _mixer_forward(own) if alternative.kind == "parent" else own.hidden


def training_numbers(alternative: Alternative, own: Shape) -> TrainingNumbers:
    """Return the numbers a token of a sub-block in training, without its output."""
    if alternative.sub_block == "attention" and (heads := alternative.query_heads(own)):
        queries, keys = _attention_numbers(alternative, own, heads)
        return TrainingNumbers(2 * queries + 2 * keys, 4 * queries + 4 * keys)
    width = _used_channels(alternative, own) if alternative.sub_block == "ffn" else 0
    routed = 2 * _chosen(alternative, own) * own.hidden
    return TrainingNumbers(4 * width + routed, 6 * width + 2 * routed)


def normed_numbers(alternative: Alternative, own: Shape) -> int:
    """Return the numbers a token that go through norms inside a sub-block: queries and keys."""
    heads = alternative.query_heads(own) if alternative.sub_block == "attention" else 0
    return sum(_attention_numbers(alternative, own, heads)) if heads and own.qk_norm else 0


def layer_forward_numbers(own: Shape, attention: Alternative, ffn: Alternative) -> int:
    """Return the numbers a token at the peak of a traced forward pass of a layer."""
    peaks = (
        BEFORE_ATTENTION * own.hidden + forward_numbers(attention, own),
        BEFORE_FFN * own.hidden + forward_numbers(ffn, own),
        TRACED * own.hidden,
    )
    return max(peaks)


def widest_forward(shape: Shape) -> int:
    """Return the numbers a token at the peak of a traced forward pass of the parent's widest layer."""
    return max(layer_forward_numbers(own, ParentAttention(), ParentFfn()) for own in shape.each)


def _attention_numbers(alternative: Alternative, own: Shape, heads: int) -> tuple[int, int]:
    return heads * own.head_dim, alternative.cached_heads(own) * own.head_dim


def _mixer_forward(own: Shape) -> int:
    """Return the numbers a token of a mixer that keeps a state: projections, the convolution, and the chunked scan."""
    match own.mixer:
        case "mamba2" | "delta_net":
            assert own.state is not None
            inner = own.state.heads * own.state.head_dim
            return 8 * inner + 4 * own.state.groups * own.state.state
        case "attention" | "linear" | "none":
            return own.hidden
        case _:
            assert_never(own.mixer)


def _used_channels(alternative: Alternative, own: Shape) -> int:
    """Return the channels of an FFN that one token goes through."""
    experts, top_k = alternative.routing(own)
    if experts == 1:
        return alternative.channels(own)
    return (alternative.channels(own) - own.shared_width) // experts * top_k + own.shared_width


def _chosen(alternative: Alternative, own: Shape) -> int:
    """Return the experts of one token; 0 without a mixture."""
    experts, top_k = alternative.routing(own)
    return 0 if experts == 1 else top_k


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
