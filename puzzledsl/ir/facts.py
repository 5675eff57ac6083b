"""Figures of a parent and of its alternatives: KV heads, widths, parameter counts.

A sub-block owns the norm before it, so a no-op removes both. Parameters are counted as the transformers models store
them: q, k, v, o with optional biases and per-head q/k norms; gate, up, down with optional biases.
"""

from __future__ import annotations

from typing import assert_never

from puzzledsl.ir.alternatives import (
    Alternative,
    GqaAttention,
    LinearAttention,
    LinearFfn,
    MlpFfn,
    MoeFfn,
    NoOpAttention,
    NoOpFfn,
    ParentAttention,
    ParentFfn,
)
from puzzledsl.ir.nodes import Shape


def fact(alternative: Alternative, attribute: str, shape: Shape) -> int:
    """Return an integer attribute of one alternative for a parent of `shape`.

    `kv_heads`; `window` in tokens (0 if nothing caps the KV length); `width` in intermediate channels (summed over
    all experts for moe); `params`. An attribute that the alternative lacks is 0. Raises ValueError for a name that is
    no attribute.
    """
    match attribute:
        case "params":
            return params(alternative, shape)
        case "kv_heads":
            return kv_heads(alternative, shape)
        case "window":
            return window(alternative, shape) or 0
        case "width":
            return width(alternative, shape)
        case _:
            raise ValueError(f"no attribute {attribute!r}")


def kv_heads(alternative: Alternative, shape: Shape) -> int:
    """Return the key/value heads of an attention alternative; 0 without attention."""
    match alternative:
        case ParentAttention():
            return shape.kv_heads
        case GqaAttention(kv_heads=heads):
            return heads
        case _:
            return 0


def window(alternative: Alternative, shape: Shape) -> int | None:
    """Return the most tokens that an attention sees: the shorter of the parent's window and its own. None: no cap."""
    own = alternative.window if isinstance(alternative, GqaAttention) else None
    windows = [w for w in (own, shape.window) if w is not None]
    return min(windows) if windows and kv_heads(alternative, shape) else None


def width(alternative: Alternative, shape: Shape) -> int:
    """Return the intermediate channels of an FFN alternative, over all experts; 0 for linear and no-op."""
    match alternative:
        case ParentFfn():
            return shape.intermediate
        case MlpFfn(width=channels):
            return channels
        case MoeFfn(experts=experts, width=channels):
            return experts * channels
        case _:
            return 0


def params(alternative: Alternative, shape: Shape) -> int:
    """Return the parameters of a sub-block, including biases and its norm."""
    match alternative:
        case ParentAttention():
            return attention_params(shape, shape.kv_heads)
        case GqaAttention(kv_heads=heads):
            return attention_params(shape, heads)
        case ParentFfn():
            return mlp_params(shape, shape.intermediate) + shape.hidden
        case MlpFfn(width=channels):
            return mlp_params(shape, channels) + shape.hidden
        case MoeFfn(experts=experts, width=channels):
            router = shape.hidden * experts
            return router + experts * mlp_params(shape, channels) + shape.hidden
        case LinearAttention() | LinearFfn():
            return shape.hidden * shape.hidden + shape.hidden
        case NoOpAttention() | NoOpFfn():
            return 0
        case _:
            assert_never(alternative)


def attention_params(shape: Shape, heads: int) -> int:
    """Return the parameters of an attention with `heads` key/value heads, including its norm."""
    queries, keys = shape.heads * shape.head_dim, heads * shape.head_dim
    weights = shape.hidden * (queries + 2 * keys) + queries * shape.hidden
    biases = (queries + 2 * keys) * shape.attention_bias + shape.hidden * shape.output_bias
    return weights + biases + 2 * shape.head_dim * shape.qk_norm + shape.hidden


def mlp_params(shape: Shape, channels: int) -> int:
    """Return the parameters of a gated FFN of `channels` intermediate channels, without its norm."""
    return 3 * shape.hidden * channels + (2 * channels + shape.hidden) * shape.mlp_bias


def fixed_params(shape: Shape) -> int:
    """Return the parameters outside the layers: embedding, head (not counted again if tied) and final norm."""
    return shape.vocab * shape.hidden * (1 if shape.tied else 2) + shape.hidden


def total_params(shape: Shape) -> int:
    """Return the parameters of the whole parent."""
    layer = params(ParentAttention(), shape) + params(ParentFfn(), shape)
    return fixed_params(shape) + shape.layers * layer


def parent_fact(shape: Shape, name: str) -> int | str | bool:
    """Return one of the language's `PARENT_FACTS`, as in `llama.layers` or `llama.params`."""
    if name == "params":
        return total_params(shape)
    value: int | str | bool = getattr(shape, name)
    return value
