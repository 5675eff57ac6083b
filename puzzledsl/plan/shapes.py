"""Names and shapes of an alternative's stored weights.

The names are those of transformers inside `self_attn` and `mlp`; a linear sub-block is one matrix `linear.weight`.
The norm before a sub-block is the parent's: neither trained nor stored.
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

Shapes = dict[str, tuple[int, ...]]


def is_trainable(alternative: Alternative) -> bool:
    """Return True if the alternative has trainable weights: anything but the parent's sub-block and a no-op."""
    return not isinstance(alternative, ParentAttention | ParentFfn | NoOpAttention | NoOpFfn)


def attention_shapes(shape: Shape, kv_heads: int) -> Shapes:
    """Return the shapes: q [heads * head_dim, hidden], k, v [kv_heads * head_dim, hidden], o [hidden, heads * head_dim]."""
    queries, keys = shape.heads * shape.head_dim, kv_heads * shape.head_dim
    shapes: Shapes = {
        "q_proj.weight": (queries, shape.hidden),
        "k_proj.weight": (keys, shape.hidden),
        "v_proj.weight": (keys, shape.hidden),
        "o_proj.weight": (shape.hidden, queries),
    }
    if shape.attention_bias:
        shapes |= {"q_proj.bias": (queries,), "k_proj.bias": (keys,), "v_proj.bias": (keys,)}
    if shape.output_bias:
        shapes |= {"o_proj.bias": (shape.hidden,)}
    if shape.qk_norm:
        shapes |= {"q_norm.weight": (shape.head_dim,), "k_norm.weight": (shape.head_dim,)}
    return shapes


def mlp_shapes(shape: Shape, width: int, prefix: str = "") -> Shapes:
    """Return the shapes of a gated FFN: gate and up [width, hidden], down [hidden, width]."""
    shapes: Shapes = {
        "gate_proj.weight": (width, shape.hidden),
        "up_proj.weight": (width, shape.hidden),
        "down_proj.weight": (shape.hidden, width),
    }
    if shape.mlp_bias:
        shapes |= {"gate_proj.bias": (width,), "up_proj.bias": (width,), "down_proj.bias": (shape.hidden,)}
    return {prefix + name: size for name, size in shapes.items()}


def shapes_of(shape: Shape, alternative: Alternative) -> Shapes:
    """Return the shapes of one alternative's stored weights; empty for the parent's sub-block and a no-op."""
    match alternative:
        case GqaAttention(kv_heads=kv_heads):
            return attention_shapes(shape, kv_heads)
        case MlpFfn(width=width):
            return mlp_shapes(shape, width)
        case MoeFfn(experts=experts, width=width):
            shapes: Shapes = {"router.weight": (experts, shape.hidden)}
            for expert in range(experts):
                shapes |= mlp_shapes(shape, width, f"experts.{expert}.")
            return shapes
        case LinearAttention() | LinearFfn():
            return {"linear.weight": (shape.hidden, shape.hidden)}
        case ParentAttention() | ParentFfn() | NoOpAttention() | NoOpFfn():
            return {}
        case _:
            assert_never(alternative)
