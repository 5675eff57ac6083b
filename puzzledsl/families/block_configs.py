"""Entries of `block_configs` in config.json (DeciLM, nemotron-nas), and the alternatives that turn one layer into another.

An entry says in DeciLM's terms what a layer is like; a sub-block of an installed package has `module`, its word, and `arguments`.
A child can be a parent: its base family is `base_model_type`, Llama without one. DeciLM leaves sizes that differ from layer to
layer empty, and gives the width of an FFN as `ffn_mult`.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

from puzzledsl.alternatives.alternative import KIND_FIELDS, SUB_BLOCKS, Alternative, Attention, SubBlock
from puzzledsl.alternatives.gqa import GqaAttention
from puzzledsl.alternatives.linear import LinearAttention, LinearFfn, NoOpAttention, NoOpFfn
from puzzledsl.alternatives.mlp import MlpFfn
from puzzledsl.alternatives.moe import MAX_EXPERTS, MoeFfn
from puzzledsl.alternatives.parent import PARENTS
from puzzledsl.alternatives.precision import CACHES, PRECISIONS
from puzzledsl.alternatives.registry import KINDS, AttentionAlternative, FfnAlternative
from puzzledsl.alternatives.shape import LAYER_FIELDS, Shape
from puzzledsl.families.config import MAX_SIZE, MAX_WINDOW, BadConfig, Config, shown

Layer = tuple[AttentionAlternative, FfnAlternative]
FFN_MULTIPLE = 256  # runtimes that read `ffn_mult` round the FFN width up to a multiple of this
DTYPE = "dtype"  # key of an entry with the storage type of a quantised sub-block
CACHE = "kv_cache"  # key of an entry with the type of an attention's KV cache
MIXTURE = {"experts": "num_experts", "top_k": "num_experts_per_tok", "expert_width": "moe_intermediate_size"}
"""Field of a layer with a mixture -> key of an entry."""
_FLAGS: dict[str, Any] = {"no_op": False, "replace_with_linear": False, "sparsify": None}
_EMPTY: Mapping[SubBlock, dict[str, Any]] = {
    "attention": _FLAGS | {"n_heads_in_group": None, "window_length": None, "num_sink_tokens": None},
    "ffn": _FLAGS | {"intermediate_size": None},
}
"""Keys that every entry has."""
_GONE: Mapping[str, dict[str, Any]] = {"linear": {"replace_with_linear": True}, "none": {"no_op": True}}


def to_block_configs(layers: Sequence[Layer], shape: Shape) -> list[dict[str, Any]]:
    """Return one `block_configs` entry per layer."""
    each = shape.each if len(layers) == shape.layers else (shape,) * len(layers)
    return [
        {part: _EMPTY[part] | entry_of(a, own) for part, a in zip(SUB_BLOCKS, pair, strict=True)}
        for pair, own in zip(layers, each, strict=True)
    ]


def from_block_configs(entries: Sequence[Mapping[str, Any]], shape: Shape) -> list[Layer]:
    """Return each layer's alternatives; those of the parent's size become `parent`. Raises as `layer_of`."""
    each = shape.each if len(entries) == shape.layers else (shape,) * len(entries)
    return [layer_of(entry, own) for entry, own in zip(entries, each, strict=True)]


def layer_of(entry: Mapping[Any, Any], own: Shape) -> Layer:
    """Return the alternatives of one entry. Raises KeyError, TypeError, ValueError."""
    return cast(Layer, tuple(from_entry(part, entry[part], own) for part in SUB_BLOCKS))


def entry_of(alternative: Alternative, shape: Shape) -> dict[str, Any]:
    """Return an alternative's entry in a layer of this shape, with its types; `to_block_configs` adds other keys."""
    types = {DTYPE: alternative.dtype, CACHE: alternative.cache}
    stored = {key: name for key, name in types.items() if name is not None}
    if not alternative.in_families:
        arguments = alternative.model_dump(mode="json", exclude={"kind", DTYPE, CACHE})
        return {"module": alternative.kind, "arguments": arguments} | stored
    own = alternative.alone(shape)
    if alternative.sub_block == "attention":
        return _attention_entry(own, shape) | stored
    return _ffn_entry(own, shape) | stored


def _attention_entry(own: Shape, shape: Shape) -> dict[str, Any]:
    if own.mixer != "attention":
        return {} if own.mixer == shape.mixer else _GONE[own.mixer]
    seen = (own.window, own.window_sinks)
    window, sinks = (None, 0) if seen == (shape.window, shape.window_sinks) else seen
    heads = {} if own.heads == shape.heads else {"num_attention_heads": own.heads}
    group = {"n_heads_in_group": own.heads // own.kv_heads}
    return group | {"window_length": window, "num_sink_tokens": sinks or None} | heads


def _ffn_entry(own: Shape, shape: Shape) -> dict[str, Any]:
    """Return the entry of an FFN.

    `ffn_mult` serves runtimes that do not read `intermediate_size`: they compute int(2 * ffn_mult * hidden / 3) and round it
    up to a multiple of 256. Another width cannot be expressed so; its entry has no `ffn_mult`, and such a runtime fails
    instead of building the wrong width.
    """
    if own.ffn == "moe":
        return {key: getattr(own, field) for field, key in MIXTURE.items()}
    if own.ffn != "dense":
        return {} if own.ffn == shape.ffn else {"ffn_mult": None} | _GONE[own.ffn]
    sizes: dict[str, Any] = {"intermediate_size": own.intermediate}
    if own.intermediate % FFN_MULTIPLE:
        return sizes
    return {"ffn_mult": ffn_mult(own.intermediate, shape.hidden)} | sizes


def ffn_mult(width: int, hidden: int) -> float:
    """Return the smallest float64 at which int(2 * ffn_mult * hidden / 3) equals `width`."""
    multiple = 3 * width / (2 * hidden)
    while int(2 * multiple * hidden / 3) < width:
        multiple = math.nextafter(multiple, math.inf)
    return multiple


class BadEntry(ValueError):
    """A sub-block's entry that no layer of the shape can have: an impossible size, or a module that no package here has."""

    def __init__(self, sub_block: SubBlock, reason: object) -> None:
        super().__init__(str(reason))
        self.sub_block = sub_block


def from_entry(sub_block: SubBlock, entry: Mapping[str, Any], shape: Shape) -> Alternative:
    """Return an entry's alternative, `parent` if its size is the parent's. Raises KeyError, TypeError, ValueError (BadEntry)."""
    if (module := entry.get("module")) is not None:
        kind = KINDS[sub_block].get(module) if isinstance(module, str) else None
        if kind is None or kind.in_families:
            raise BadEntry(sub_block, f"no installed package has the alternative {shown(module)}")
        found: Alternative = kind.model_validate(entry["arguments"])
    else:
        try:
            fields = _fields(sub_block, Config(entry), shape)
        except BadConfig as error:
            raise BadEntry(sub_block, error) from error
        found = alternative_of(sub_block, replace(shape, **fields), shape)
    if (dtype := entry.get(DTYPE)) is not None and dtype not in PRECISIONS:
        raise ValueError(f"`{dtype}` is no storage type")
    if (cache := entry.get(CACHE)) is not None and cache not in CACHES:
        raise ValueError(f"`{cache}` is no type of a KV cache")
    return _in_types(found, dtype, cache)


def _in_types(alternative: Alternative, dtype: Any, cache: Any) -> Alternative:
    found = alternative.in_precision(dtype)
    return found.in_cache(cache) if isinstance(found, Attention) else found


def _fields(sub_block: SubBlock, entry: Config, shape: Shape) -> dict[str, Any]:
    """Return the LAYER_FIELDS that an entry sets, with values. Raises BadConfig."""
    kind = KIND_FIELDS[sub_block]
    if entry.flag("no_op") or entry.flag("replace_with_linear"):
        return {kind: "none" if entry.flag("no_op") else "linear"}
    if getattr(shape, kind) not in ("attention", "dense", "moe"):
        return {}
    if sub_block == "attention":
        group = entry.whole("n_heads_in_group")
        heads = entry.optional("num_attention_heads", shape.heads, shape.heads)
        if heads % group:
            raise BadConfig(f"n_heads_in_group is {group}, which does not divide {heads} heads")
        sizes = {"heads": heads, "kv_heads": heads // group}
        window = entry.optional("window_length", MAX_WINDOW, MAX_WINDOW, MAX_WINDOW)
        sinks = entry.whole("num_sink_tokens") if entry.content.get("num_sink_tokens") else 0
        if sinks >= window:
            raise BadConfig(f"num_sink_tokens is {sinks} of a window of {window}")
        return sizes | ({"window": window, "window_sinks": sinks} if entry.has("window_length") else {})
    if not entry.has("num_experts"):
        return {"ffn": "dense", "intermediate": entry.whole("intermediate_size")}
    experts, top_k = entry.whole("num_experts", MAX_EXPERTS), entry.whole("num_experts_per_tok")
    width = entry.whole("moe_intermediate_size")
    if shape.ffn != "moe" or top_k > experts:
        raise BadConfig(f"num_experts is {experts} and num_experts_per_tok is {top_k}")
    return {"ffn": "moe", "experts": experts, "top_k": top_k, "expert_width": width}


def alternative_of(sub_block: SubBlock, own: Shape, base: Shape) -> Alternative:
    """Return the alternative that turns the layer `base`'s sub-block into the layer `own`'s; `parent` if they are alike."""
    parent = PARENTS[sub_block]
    made: Alternative
    match own.mixer if sub_block == "attention" else own.ffn:
        case "attention":
            seen = (own.window, own.window_sinks)
            window, sinks = (None, 0) if seen == (base.window, base.window_sinks) else seen
            heads = None if own.heads == base.heads else own.heads
            made = GqaAttention(kv_heads=own.kv_heads, heads=heads, window=window, sinks=sinks)
        case "dense":
            made = MlpFfn(width=own.intermediate)
        case "moe":
            made = MoeFfn(experts=own.experts, top_k=own.top_k, width=own.expert_width)
        case "linear":
            made = LinearAttention() if sub_block == "attention" else LinearFfn()
        case "none":
            made = NoOpAttention() if sub_block == "attention" else NoOpFfn()
        case "mamba2" | "delta_net":
            return parent
    return parent if made.alone(base) == parent.alone(base) else made


def on_base(alternative: Alternative, shape: Shape) -> Alternative:
    """Return an alternative to a parent's layer as one to its base family's; itself if it is a package's or there is no base."""
    if shape.base is None or not alternative.in_families or alternative.sub_block not in SUB_BLOCKS:
        return alternative
    own = replace(shape, **(alternative.changes(shape) or {}))
    found = alternative_of(alternative.sub_block, own, shape.base)
    return _in_types(found, alternative.dtype, alternative.cache)


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
"""Field with a sub-block's kind -> sizes that are unused in a layer where that kind is `linear` or `none`."""


def is_child(content: Mapping[str, Any]) -> bool:
    """Return True if a config.json describes a child."""
    return content.get("model_type") == MODEL_TYPE or content.get(BLOCKS) is not None


def base_content(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return a child's config.json as its base family's; an empty size becomes the largest of any layer. Raises BadConfig."""
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
    """Return the possible values of the size `name` in all layers; `layers_of_child` refuses impossible ones."""
    found = (block[part].get(name) for block in blocks)
    return [n for n in found if isinstance(n, int) and not isinstance(n, bool) and 0 < n <= MAX_SIZE]


def layers_of_child(content: Mapping[str, Any], base: Shape) -> tuple[Layer, ...]:
    """Return each layer's alternatives to the base family's layer. Raises BadConfig."""
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
    """Return the shape of a child that is used as a parent. Raises BadConfig, also for a sub-block that a parent cannot have."""
    layers = []
    for index, (pair, own) in enumerate(zip(layers_of_child(content, base), base.each, strict=True)):
        layer = {name: getattr(own, name) for name in LAYER_FIELDS}
        for alternative in pair:
            if not alternative.in_families:
                what = f"has a `{alternative.name}` sub-block, which a parent cannot have"
                raise BadConfig(f"layer {index} {what}")
            if alternative.cache is not None:
                what = f"rounds keys and values to {alternative.cache}, which a parent cannot"
                raise BadConfig(f"layer {index} {what}")
            layer |= alternative.changes(own) or {}
        layers.append(layer)
    return base.with_layers(_alike(layers)).model_copy(update={"base": base})


def _alike(layers: Sequence[dict[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """Set sizes that a layer does not use to the commonest values among layers that do, so that layers alike are equal."""
    for kind, fields in _USED_IF.items():
        unused = [layer for layer in layers if layer[kind] in ("linear", "none")]
        used = [layer for layer in layers if layer[kind] not in ("linear", "none")]
        sizes = Counter(tuple((name, layer[name]) for name in fields) for layer in used)
        for layer in unused if sizes else ():
            layer |= dict(sizes.most_common(1)[0][0])
    return layers


def _entries(content: Mapping[str, Any]) -> list[dict[SubBlock, dict[str, Any]]]:
    """Return all layers' entries without nulls, with `ffn_mult` converted to `intermediate_size`. Raises BadConfig."""
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
