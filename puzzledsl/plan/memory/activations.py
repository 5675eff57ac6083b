"""Activations of a sub-block, in numbers a token: while it runs forward, and while it trains.

Attention is counted as fused kernels compute it, without a matrix of scores. Products with the keys' and values' heads repeated
are counted as copies, as torch makes them for grouped heads.
"""

from __future__ import annotations

from typing import assert_never

from puzzledsl.alternatives.alternative import Alternative
from puzzledsl.ir.nodes import Shape

TRACED = 7
"""Tensors of one hidden state a token that a layer's trace holds: what enters, and input and output of both sub-blocks, the
stream between them and what leaves."""


def forward_numbers(alternative: Alternative, own: Shape) -> int:
    """Return the numbers a token that a sub-block holds at the peak of a forward pass, without its input."""
    if alternative.sub_block == "attention":
        return _attention_forward(alternative, own) + own.hidden
    return _ffn_forward(alternative, own) + own.hidden


def training_numbers(alternative: Alternative, own: Shape) -> int:
    """Return the numbers a token that a sub-block keeps for its backward pass, and needs at the peak of this."""
    if alternative.sub_block == "attention":
        if not (heads := alternative.query_heads(own)):
            return 2 * own.hidden
        queries = heads * own.head_dim
        keys = alternative.cached_heads(own) * own.head_dim
        return 9 * queries + 4 * keys
    if width := _used_channels(alternative, own):
        routed = _chosen(alternative, own) * own.hidden * 2
        return 6 * width + routed
    return 2 * own.hidden


def layer_forward_numbers(own: Shape, *parts: Alternative) -> int:
    """Return the numbers a token at the peak of a traced forward pass of a layer."""
    return max((forward_numbers(part, own) for part in parts), default=0) + TRACED * own.hidden


def _attention_forward(alternative: Alternative, own: Shape) -> int:
    if heads := alternative.query_heads(own):
        queries = heads * own.head_dim * (2 if own.output_gate else 1)
        keys = alternative.cached_heads(own) * own.head_dim
        return 5 * queries + 3 * keys
    return _mixer_forward(own) if alternative.kind == "parent" else 0


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


def _ffn_forward(alternative: Alternative, own: Shape) -> int:
    width = _used_channels(alternative, own)
    return 3 * width + _chosen(alternative, own) * own.hidden * 2


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
