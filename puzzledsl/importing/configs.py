"""Sizes in Puzzletron's block configurations, which use several names for the same field."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from puzzledsl.families.config import MAX_SIZE


def is_attention(sub: Mapping[str, Any]) -> bool:
    """Return True for the statistics of an attention sub-block."""
    return bool(sub.get("subblock_config_class") == "AttentionConfig")


def part_of(block: Mapping[str, Any], part: str) -> Mapping[str, Any]:
    """Return a block's attention or FFN configuration, parsed from the option's name if that is the only source."""
    config = block.get(part)
    if isinstance(config, dict):
        return config
    if isinstance(listed := block.get("subblock_configs"), list):
        return _listed(listed, part)
    name = str(block.get("name", ""))
    before, _, after = re.sub(r"\s+", " ", name).partition("ffn")
    text = before if part == "attention" else after
    if re.search(r"no_?op(=True)?\b", text) and "no_op=False" not in text:
        return {"no_op": True}
    if re.search(r"\blinear\b|replace_with_linear=True", text):
        return {"replace_with_linear": True}
    keys = {
        "num_key_value_heads": r"(?:kv|key_value)_heads[_=]([0-9]{1,9})\b|\b([0-9]{1,9}) kv heads\b",
        "n_heads_in_group": r"(?:gqa_|n_heads_in_group=)([0-9]{1,9})\b",
        "intermediate_size": r"intermediate(?:_size=|_| size )([0-9]{1,9})\b",
    }
    found = {key: re.search(pattern, text) for key, pattern in keys.items()}
    return {key: int(next(filter(None, m.groups()))) for key, m in found.items() if m is not None}


def _listed(configs: Sequence[object], part: str) -> Mapping[str, Any]:
    """Return a sub-block's configuration from a list whose entries have a `kind`.

    `mamba` counts as the attention, `moe` as the FFN.
    """
    kinds = {"attention": ("attention", "mamba"), "ffn": ("ffn", "moe")}[part]
    for config in configs:
        if isinstance(config, dict) and config.get("kind") in kinds:
            return config if config["kind"] == part else {config["kind"]: config, **config}
    return {"no_op": True}


def kv_heads_of(config: Mapping[str, Any], heads: int | None) -> int | None:
    """Return the key/value heads of an attention configuration, else None. `heads`: the parent's query heads."""
    for key in ("num_key_value_heads", "num_kv_heads"):
        if (kv := size_of(config, key)) is not None:
            return kv
    group = size_of(config, "n_heads_in_group")
    return None if heads is None or group is None or heads % group else heads // group


def width_of(config: Mapping[str, Any]) -> int | None:
    """Return the intermediate width of an FFN configuration; None if it is missing."""
    return size_of(config, "intermediate_size")


def size_of(sizes: Mapping[str, Any], key: str) -> int | None:
    """Return a size between 1 and MAX_SIZE; None for any other value."""
    value = sizes.get(key)
    return value if type(value) is int and 1 <= value <= MAX_SIZE else None
