"""Children as parents: a config.json with `block_configs`, ours or of a DeciLM checkpoint such as Nemotron-51B.

Its base family is `base_model_type`, Llama without one. DeciLM leaves the sizes that differ from layer to layer empty, and
gives the width of an FFN as `ffn_mult`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from puzzledsl.alternatives.alternative import SUB_BLOCKS, SubBlock
from puzzledsl.alternatives.shape import LAYER_FIELDS, Shape
from puzzledsl.families.block_configs import FFN_MULTIPLE, BadEntry, Layer, layer_of
from puzzledsl.families.config import MAX_SIZE, BadConfig, Config, shown

MODEL_TYPE = "nemotron-nas"
BLOCKS = "block_configs"
_UNSUPPORTED: Mapping[SubBlock, tuple[str, ...]] = {
    "attention": ("sparsify", "unshifted_sink", "use_prefill_window_in_sink_attention"),
    "ffn": ("sparsify",),
}
_USED_IF: Mapping[str, tuple[str, ...]] = {
    "mixer": ("heads", "kv_heads", "head_dim", "window", "window_sinks", "rope"),
    "ffn": ("intermediate", "experts", "top_k", "expert_width", "shared_width"),
}
"""Field of a sub-block's kind -> sizes that nothing uses in a layer with a matrix, or nothing, there."""


def is_child(content: Mapping[str, Any]) -> bool:
    """Return True if a config.json describes a child."""
    return content.get("model_type") == MODEL_TYPE or content.get(BLOCKS) is not None


def base_content(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return a child's config.json as its base family's, with the largest size of any layer for empty ones. Raises BadConfig."""
    blocks = _entries(content)
    found = {name: value for name, value in content.items() if name != BLOCKS}
    if content.get("num_key_value_heads") is None:
        heads = Config(content).whole("num_attention_heads")
        groups = [group for group in _sizes(blocks, "attention", "n_heads_in_group") if heads % group == 0]
        found["num_key_value_heads"] = heads // min(groups, default=1)
    if content.get("intermediate_size") is None:
        found["intermediate_size"] = max(_sizes(blocks, "ffn", "intermediate_size"), default=FFN_MULTIPLE)
    return found | {"model_type": content.get("base_model_type", "llama")}


def _sizes(blocks: Sequence[Mapping[SubBlock, Mapping[str, Any]]], part: SubBlock, name: str) -> list[int]:
    """Return a size of every layer that has a possible one; `layers_of_child` refuses the others."""
    found = (block[part].get(name) for block in blocks)
    return [
        size
        for size in found
        if isinstance(size, int) and not isinstance(size, bool) and 0 < size <= MAX_SIZE
    ]


def layers_of_child(content: Mapping[str, Any], base: Shape) -> tuple[Layer, ...]:
    """Return the alternatives of each layer, to those of the base family. Raises BadConfig."""
    blocks = _entries(content)
    if len(blocks) != base.layers:
        raise BadConfig(f"{BLOCKS} has {len(blocks)} layers, and num_hidden_layers is {base.layers}")
    found = []
    for index, (block, own) in enumerate(zip(blocks, base.each, strict=True)):
        try:
            found.append(layer_of(block, own))
        except BadEntry as error:
            raise BadConfig(f"{BLOCKS}[{index}].{error.sub_block}: {error}") from error
        except (KeyError, TypeError, ValueError) as error:
            raise BadConfig(f"{BLOCKS}[{index}]: {error}") from error
    return tuple(found)


def shape_of_child(content: Mapping[str, Any], base: Shape) -> Shape:
    """Return the shape of a child as a parent. Raises BadConfig, for a sub-block that a parent cannot have as well."""
    layers = []
    for index, (pair, own) in enumerate(zip(layers_of_child(content, base), base.each, strict=True)):
        layer = {name: getattr(own, name) for name in LAYER_FIELDS}
        for alternative in pair:
            if not alternative.in_families:
                raise BadConfig(
                    f"layer {index} has a `{alternative.name}` sub-block, which a parent cannot have"
                )
            if alternative.cache is not None:
                raise BadConfig(
                    f"layer {index} rounds keys and values to {alternative.cache}, which a parent cannot"
                )
            layer |= alternative.changes(own) or {}
        layers.append(layer)
    return base.with_layers(_alike(layers)).model_copy(update={"base": base})


def _alike(layers: Sequence[dict[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """Give the sizes that a layer does not use the most frequent value of those that do, so that equal layers are equal."""
    for kind, fields in _USED_IF.items():
        used = [layer for layer in layers if layer[kind] not in ("linear", "none")]
        if not used:
            continue
        common = dict(
            Counter(tuple((name, layer[name]) for name in fields) for layer in used).most_common(1)[0][0]
        )
        for layer in layers:
            if layer[kind] in ("linear", "none"):
                layer |= common
    return layers


def _entries(content: Mapping[str, Any]) -> list[dict[SubBlock, dict[str, Any]]]:
    """Return the entries of all layers with every field that is read; widths are `intermediate_size`. Raises BadConfig."""
    blocks = content.get(BLOCKS)
    if not isinstance(blocks, list):
        raise BadConfig(f"{BLOCKS} is {'missing' if BLOCKS not in content else shown(blocks)}")
    hidden = Config(content).whole("hidden_size")
    return [{s: _entry(block, s, index, hidden) for s in SUB_BLOCKS} for index, block in enumerate(blocks)]


def _entry(block: Any, sub_block: SubBlock, index: int, hidden: int) -> dict[str, Any]:
    entry = block.get(sub_block) if isinstance(block, dict) else None
    if not isinstance(entry, dict):
        raise BadConfig(f"{BLOCKS}[{index}] has no {sub_block}")
    found = {"no_op": False, "replace_with_linear": False} | {k: v for k, v in entry.items() if v is not None}
    for name in _UNSUPPORTED[sub_block]:
        if found.get(name):
            place = f"{BLOCKS}[{index}].{sub_block}.{name}"
            raise BadConfig(f"{place} is {shown(found[name])}, which is not supported")
    if sub_block == "ffn" and "ffn_mult" in found and "intermediate_size" not in found:
        multiple = found["ffn_mult"]
        if isinstance(multiple, bool) or not isinstance(multiple, int | float) or not 0 < multiple < MAX_SIZE:
            raise BadConfig(f"{BLOCKS}[{index}].ffn.ffn_mult is {shown(multiple)}")
        found["intermediate_size"] = -(-int(2 * multiple * hidden / 3) // FFN_MULTIPLE) * FFN_MULTIPLE
    return found
