"""Architecture of a parent, and the initialisers of its alternatives."""

from __future__ import annotations

from typing import Literal

from puzzledsl.base.frozen import Frozen


class Shape(Frozen):
    """A parent's architecture. head_dim is its own number, never hidden / heads."""

    family: str  # "llama", "mistral", "qwen2", "qwen3"
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocab: int
    tied: bool
    attention_bias: bool = False  # q, k, v biases
    output_bias: bool = False  # o_proj bias
    mlp_bias: bool = False
    qk_norm: bool = False
    window: int | None = None  # tokens that every attention sees at most, itself included (None: all)


class Initialisers(Frozen):
    """Initialisation of alternatives."""

    gqa: Literal["least_squares", "mean_pool"] = "least_squares"
    mlp: Literal["least_squares", "channel_contribution"] = "least_squares"
    linear: Literal["least_squares", "product"] = "least_squares"
