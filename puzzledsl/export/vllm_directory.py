"""Write a child as a directory for vLLM's Transformers backend, which runs the model code in the directory.

The backend makes one KV cache for each layer, so layers are grouped: each has one attention, and the layers without a
cache that follow it, or precede the first, are inside it. It makes mixtures of one size only, so experts of several sizes
have another name, under which transformers' own code runs them.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from puzzledsl.alternatives.parent import mixture_fields
from puzzledsl.alternatives.support import Architecture
from puzzledsl.child.assemble import to_block_configs
from puzzledsl.child.checkpoint.contents import ChildFiles
from puzzledsl.child.checkpoint.write import child_config_json, write_checkpoint
from puzzledsl.export.lowering import WINDOW_KEYS, windows
from puzzledsl.families.registry import FAMILIES
from puzzledsl.models.families.stored import as_parameters

CODE = ("configuration_vllm.py", "modeling_vllm.py")


def write_for(
    engine: Architecture,
    child: ChildFiles,
    base_dir: Path,
    out_dir: Path,
    card: str | None = None,
    *,
    name: str | None = None,
) -> None:
    """Write a lowered child as the architecture loads it from a directory. Raises as `write_checkpoint` does."""
    if not engine.grouped:
        write_checkpoint(child, base_dir, out_dir, card, name=name, compress=True)
        return
    content = _config(child)
    config = copy.deepcopy(child.config)
    cast(Any, config).layer_types = [_kind(window) for window in windows(child)]  # as the code makes them
    prefix = f"{FAMILIES[child.shape.family].layers}."
    places = group_names(_cached(child))
    weights, bank = {}, len(_mixtures(child)) > 1
    for own, weight in as_parameters(child.weights, FAMILIES[child.shape.family]).items():
        if own.startswith(prefix):
            index, _, rest = own.removeprefix(prefix).partition(".")
            rest = rest.replace("mlp.experts.", "mlp.bank.") if bank else rest
            own = f"{prefix}{places[int(index)]}.{rest}"
        weights[own] = weight
    grouped = replace(child, weights=weights, config=config)
    write_checkpoint(grouped, base_dir, out_dir, card, name=name, config=content, code=CODE)


def group_names(cached: Sequence[bool]) -> list[str]:
    """Return the place of each layer: `3` for one with a cache, `3.after.0` behind it, `0.before.0` before the first."""
    names: list[str] = []
    group, inside = -1, 0
    for has_cache in cached:
        if has_cache:
            group, inside = group + 1, 0
            names.append(f"{group}")
        else:
            names.append(f"{max(group, 0)}.{'after' if group >= 0 else 'before'}.{inside}")
            inside += 1
    return names


def _config(child: ChildFiles) -> dict[str, Any]:
    """Return config.json. The backend reads the windows of `layer_types` and `sliding_window`, one a group."""
    content = {
        k: v for k, v in child_config_json(child).items() if k not in (*WINDOW_KEYS, "per_layer_config")
    }
    for block in content["block_configs"]:
        block["attention"]["window_length"] = None
    seen = [window for window, cached in zip(windows(child), _cached(child), strict=True) if cached]
    size = next((window for window in seen if window is not None), None)
    for experts, active, width in _mixtures(child):  # of one size: vLLM's own kernels run it
        names = FAMILIES[child.shape.family].mixture
        content |= {names.count: experts, "num_experts_per_tok": active, names.width: width}
    if divisor := FAMILIES[child.shape.family].logits_divisor:
        content["logit_scale"] = 1 / getattr(child.config, divisor)
    return content | {
        "model_type": "puzzle",
        "architectures": ["ChildForCausalLM"],
        "auto_map": {
            "AutoConfig": "configuration_vllm.ChildConfig",
            "AutoModel": "modeling_vllm.ChildModel",
            "AutoModelForCausalLM": "modeling_vllm.ChildForCausalLM",
        },
        "num_hidden_layers": len(seen),
        "head_dim": child.shape.head_dim,
        "layer_types": [_kind(window) for window in seen],
        **({} if size is None else {"sliding_window": size, "use_sliding_window": True}),
    }


def _mixtures(child: ChildFiles) -> set[tuple[int, ...]]:
    """Return the sizes of the child's mixtures: experts, those of a token, and channels of an expert."""
    blocks = (block["ffn"] for block in to_block_configs(child.layers, child.shape))
    return {
        tuple(block[name] for name in mixture_fields(0, 0, 0)) for block in blocks if block.get("num_experts")
    }


def _kind(window: int | None) -> str:
    return "full_attention" if window is None else "sliding_attention"


def _cached(child: ChildFiles) -> list[bool]:
    layers = zip(child.shape.each, child.layers, strict=True)
    return [attention.cached_heads(own) > 0 for own, (attention, _) in layers]
