"""Layer descriptions in two other formats: transformers' `per_layer_config` and Megatron-LM's heterogeneous layers file.

Both are exact: they contain sizes, not `ffn_mult`, from which readers round to multiples of 256.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, assert_never

from puzzledsl.child.block_configs import Layer, cannot
from puzzledsl.ir.alternatives import (
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


def per_layer_config(layers: Sequence[Layer], shape: Shape) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return each layer's differences from the parent (transformers >= 5.10), and the global values that its keys need.

    `skip` names removed sub-blocks. `linear_sub_blocks` names sub-blocks of one matrix, and `sink_tokens` is the
    number of first tokens that a window keeps; transformers has no keys for these two.
    """
    found: dict[str, dict[str, Any]] = {}
    digits = len(str(len(layers) - 1))
    for index, (attention, ffn) in enumerate(layers):
        entry: dict[str, Any] = {}
        if isinstance(attention, GqaAttention):
            if attention.kv_heads != shape.kv_heads:
                entry["num_key_value_heads"] = attention.kv_heads
            if attention.window is not None:
                entry["sliding_window"] = attention.window
            if attention.sinks:
                entry["sink_tokens"] = attention.sinks
        if isinstance(ffn, MlpFfn):
            entry["intermediate_size"] = ffn.width
        removed = [
            name
            for name, part in (("attention", attention), ("mlp", ffn))
            if isinstance(part, NoOpAttention | NoOpFfn)
        ]
        linear = [
            name
            for name, part in (("attention", attention), ("mlp", ffn))
            if isinstance(part, LinearAttention | LinearFfn)
        ]
        entry |= {"skip": removed} if removed else {}
        entry |= {"linear_sub_blocks": linear} if linear else {}
        if entry:
            found[str(index).zfill(digits)] = entry
    keys = {key for entry in found.values() for key in entry}
    shared: dict[str, Any] = {"linear_sub_blocks": []} if "linear_sub_blocks" in keys else {}
    shared |= {"sliding_window": None} if "sliding_window" in keys else {}
    shared |= {"sink_tokens": 0} if "sink_tokens" in keys else {}
    return shared, found


def megatron_layers(layers: Sequence[Layer], shape: Shape) -> dict[str, Any]:
    """Return the file for `--heterogeneous-layers-config-path`: `block_configs` with `num_query_groups`, `ffn_hidden_size`.

    The format has no window (Megatron would attend to all tokens), so that runtime refuses windows.
    """
    return {"block_configs": [_megatron_layer(layer, shape) for layer in layers]}


def _megatron_layer(layer: Layer, shape: Shape) -> dict[str, Any]:
    attention, ffn = layer
    none: dict[str, bool | int | None] = {"no_op": False, "replace_with_linear": False}
    match attention:
        case ParentAttention():
            first = none | {"num_query_groups": shape.kv_heads}
        case GqaAttention(kv_heads=kv_heads):
            first = none | {"num_query_groups": kv_heads}
        case LinearAttention():
            first = none | {"num_query_groups": None, "replace_with_linear": True}
        case NoOpAttention():
            first = none | {"num_query_groups": None, "no_op": True}
        case _:
            assert_never(attention)
    match ffn:
        case ParentFfn():
            second = none | {"ffn_hidden_size": shape.intermediate}
        case MlpFfn(width=width):
            second = none | {"ffn_hidden_size": width}
        case LinearFfn():
            second = none | {"ffn_hidden_size": None, "replace_with_linear": True}
        case NoOpFfn():
            second = none | {"ffn_hidden_size": None, "no_op": True}
        case MoeFfn():
            raise cannot(ffn)
        case _:
            assert_never(ffn)
    return {"attention": first, "ffn": second}
