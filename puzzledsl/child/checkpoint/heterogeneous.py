"""Layer descriptions in two other formats: transformers' `per_layer_config` and Megatron-LM's heterogeneous layers file.

Both are exact: they contain sizes, not `ffn_mult`, from which readers round to multiples of 256.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from puzzledsl.child.block_configs import Layer
from puzzledsl.ir.nodes import Shape

DEFAULTS: dict[str, Any] = {
    "linear_sub_blocks": [],
    "sliding_window": None,
    "sink_tokens": 0,
    "attention_module": None,
    "mlp_module": None,
}
"""Keys that transformers has no global value for, unless some layer has them."""


def per_layer_config(layers: Sequence[Layer], shape: Shape) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return each layer's differences from the parent (transformers >= 5.10), and the global values that its keys need.

    `skip` names removed sub-blocks. `linear_sub_blocks` names sub-blocks of one matrix, and `sink_tokens` is the
    number of first tokens that a window keeps; transformers has no keys for these two.
    """
    found: dict[str, dict[str, Any]] = {}
    digits = len(str(len(layers) - 1))
    for index, (attention, ffn) in enumerate(layers):
        own = shape.at(index)
        entry = attention.per_layer(own)
        for key, value in ffn.per_layer(own).items():
            entry[key] = entry.get(key, []) + value if isinstance(value, list) else value
        if entry:
            found[str(index).zfill(digits)] = entry
    keys = {key for entry in found.values() for key in entry}
    return {key: value for key, value in DEFAULTS.items() if key in keys}, found


def megatron_layers(layers: Sequence[Layer], shape: Shape) -> dict[str, Any] | None:
    """Return the file for `--heterogeneous-layers-config-path`: `block_configs` with `num_query_groups`, `ffn_hidden_size`.

    The format has no window (Megatron would attend to all tokens), so that runtime refuses windows. None if it cannot
    hold some sub-block.
    """
    flags = {"no_op": False, "replace_with_linear": False}
    found: list[dict[str, Any]] = []
    for index, (attention, ffn) in enumerate(layers):
        own = shape.at(index)
        first, second = attention.megatron(own), ffn.megatron(own)
        if first is None or second is None:
            return None
        found.append({"attention": flags | first, "ffn": flags | second})
    return {"block_configs": found}
