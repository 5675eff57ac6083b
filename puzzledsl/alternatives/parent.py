"""The parent's own sub-block, and the description of its weights that smaller ones share."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction
from typing import Any, ClassVar, Literal, Self

from puzzledsl.alternatives.alternative import UNCAPPED, Alternative, Attention, Ffn, Look, SubBlock
from puzzledsl.alternatives.shape import Shape
from puzzledsl.alternatives.support import NATIVE, Support
from puzzledsl.alternatives.weights import Weight, Weights

FFN_MULTIPLE = 256
"""Runtimes that read `ffn_mult` round the FFN width up to a multiple of this."""


class _Parent(Alternative):
    """The parent's own module."""

    summary: ClassVar[str] = "The parent's own sub-block, untouched: no job, score 0."
    trainable: ClassVar[bool] = False
    look: ClassVar[Look] = "parent"

    def support(self, runtime: str, *, first: bool) -> Support:
        """Native everywhere."""
        return NATIVE

    def per_layer(self, shape: Shape) -> dict[str, Any]:
        """Nothing differs."""
        return {}


class ParentAttention(_Parent, Attention):
    """The parent's own attention, untouched."""

    kind: Literal["parent"] = "parent"
    last_map: ClassVar[str | None] = "o_proj"

    def answers_to(self, word: str) -> bool:
        """`gqa` matches the parent's attention, too, by its figures."""
        return word in ("parent", "gqa")

    def figure(self, field: str, shape: Shape) -> Fraction | None:
        """Return the figures of the parent as a `gqa`."""
        return {"kv_heads": Fraction(shape.kv_heads), "sinks": Fraction(0)}.get(field, UNCAPPED)

    def weights(self, shape: Shape) -> Weights:
        """Return q, k, v, o with optional biases and per-head q/k norms."""
        return attention_weights(shape, shape.kv_heads)

    def cached_heads(self, shape: Shape) -> int:
        """Return the parent's key/value heads."""
        return shape.kv_heads

    def attended(self, shape: Shape) -> int | None:
        """Return the parent's window."""
        return shape.window

    def block_config(self, shape: Shape) -> dict[str, Any]:
        """Return the number of query heads per key/value head."""
        return {"n_heads_in_group": shape.heads // shape.kv_heads}

    @classmethod
    def from_block_config(cls, entry: Mapping[str, Any], shape: Shape) -> Self | None:
        """An attention with the parent's heads and no window."""
        if entry["no_op"] or entry["replace_with_linear"] or entry.get("window_length") is not None:
            return None
        return cls() if shape.heads // int(entry["n_heads_in_group"]) == shape.kv_heads else None

    def megatron(self, shape: Shape) -> dict[str, Any]:
        """Megatron calls key/value heads query groups."""
        return {"num_query_groups": shape.kv_heads}


class ParentFfn(_Parent, Ffn):
    """The parent's own FFN, untouched."""

    kind: Literal["parent"] = "parent"
    last_map: ClassVar[str | None] = "down_proj"

    def answers_to(self, word: str) -> bool:
        """`mlp` matches the parent's FFN, too, by its width."""
        return word in ("parent", "mlp")

    def figure(self, field: str, shape: Shape) -> Fraction | None:
        """Return the width of the parent as an `mlp`."""
        return Fraction(shape.intermediate)

    def weights(self, shape: Shape) -> Weights:
        """Return gate, up and down with optional biases."""
        return ffn_weights(shape, shape.intermediate)

    def channels(self, shape: Shape) -> int:
        """Return the parent's width."""
        return shape.intermediate

    def block_config(self, shape: Shape) -> dict[str, Any]:
        """Return the width."""
        return width_fields(shape.intermediate, shape.hidden)

    @classmethod
    def from_block_config(cls, entry: Mapping[str, Any], shape: Shape) -> Self | None:
        """An FFN of the parent's width."""
        if entry["no_op"] or entry["replace_with_linear"]:
            return None
        return cls() if int(entry["intermediate_size"]) == shape.intermediate else None

    def megatron(self, shape: Shape) -> dict[str, Any]:
        """Return the width."""
        return {"ffn_hidden_size": shape.intermediate}


PARENTS: Mapping[SubBlock, Alternative] = {"attention": ParentAttention(), "ffn": ParentFfn()}


def attention_weights(shape: Shape, kv_heads: int) -> Weights:
    """Return the weights of attention.

    Shapes: q [heads * head_dim, hidden], k, v [kv_heads * head_dim, hidden], o [hidden, heads * head_dim]. Heads are
    split over the GPUs; fewer key/value heads than GPUs are replicated.
    """
    dim = shape.head_dim
    queries, keys = shape.heads * dim, kv_heads * dim
    found = {
        "q_proj.weight": Weight((queries, shape.hidden), 0, dim),
        "k_proj.weight": Weight((keys, shape.hidden), 0, dim),
        "v_proj.weight": Weight((keys, shape.hidden), 0, dim),
        "o_proj.weight": Weight((shape.hidden, queries), 1, dim),
    }
    if shape.attention_bias:
        found |= {
            "q_proj.bias": Weight((queries,), 0, dim),
            "k_proj.bias": Weight((keys,), 0, dim),
            "v_proj.bias": Weight((keys,), 0, dim),
        }
    if shape.output_bias:
        found["o_proj.bias"] = Weight((shape.hidden,))
    if shape.qk_norm:
        found |= {"q_norm.weight": Weight((dim,)), "k_norm.weight": Weight((dim,))}
    return found


def ffn_weights(shape: Shape, width: int, prefix: str = "", *, of_expert: bool = False) -> Weights:
    """Return the weights of a gated FFN, split by channels: gate and up [width, hidden], down [hidden, width]."""
    found = {
        "gate_proj.weight": Weight((width, shape.hidden), 0, of_expert=of_expert),
        "up_proj.weight": Weight((width, shape.hidden), 0, of_expert=of_expert),
        "down_proj.weight": Weight((shape.hidden, width), 1, of_expert=of_expert),
    }
    if shape.mlp_bias:
        found |= {
            "gate_proj.bias": Weight((width,), 0),
            "up_proj.bias": Weight((width,), 0),
            "down_proj.bias": Weight((shape.hidden,)),
        }
    return {prefix + name: weight for name, weight in found.items()}


def width_fields(width: int, hidden: int) -> dict[str, Any]:
    """Return the fields of an FFN's `block_configs` entry.

    `ffn_mult` serves runtimes that do not read `intermediate_size`: they compute int(2 * ffn_mult * H / 3) and round it
    up to a multiple of 256. Another width cannot be expressed so; its entry has no `ffn_mult`, and such a runtime fails
    instead of building the wrong width.
    """
    if width % FFN_MULTIPLE:
        return {"intermediate_size": width}
    return {"ffn_mult": ffn_mult(width, hidden), "intermediate_size": width}


def ffn_mult(width: int, hidden: int) -> float:
    """Return the smallest float64 at which int(2 * ffn_mult * hidden / 3) equals `width`."""
    multiple = 3 * width / (2 * hidden)
    while int(2 * multiple * hidden / 3) < width:
        multiple = math.nextafter(multiple, math.inf)
    return multiple
