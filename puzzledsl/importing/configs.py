"""Sizes in Puzzletron's configurations of blocks, under whichever of their names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from puzzledsl.importing.artefacts import Artefacts
from puzzledsl.ir.shapes import MAX_SIZE


def is_attention(sub: Mapping[str, Any]) -> bool:
    """Whether statistics are of an attention sub-block."""
    return bool(sub.get("subblock_config_class") == "AttentionConfig")


def head_count(found: Artefacts) -> int | None:
    """The parent's query heads; None where no statistics say."""
    heads = [size_of(entry["args"], "n_head") for entry in found.stats]
    return next((h for h in heads if h is not None), None)


def part_of(block: Mapping[str, Any], part: str) -> Mapping[str, Any]:
    """A block's attention or FFN configuration, read from the option's name where that is all there is."""
    config = block.get(part)
    if isinstance(config, dict):
        return config
    name = str(block.get("name", ""))
    before, _, after = re.sub(r"\s+", " ", name).partition("ffn")
    text = before if part == "attention" else after
    if re.search(r"no_?op(=True)?\b", text) and "no_op=False" not in text:
        return {"no_op": True}
    if re.search(r"\blinear\b|replace_with_linear=True", text):
        return {"replace_with_linear": True}
    keys = {
        "num_key_value_heads": r"(?:kv|key_value)_heads[_=]([0-9]{1,9})\b",
        "n_heads_in_group": r"(?:gqa_|n_heads_in_group=)([0-9]{1,9})\b",
        "intermediate_size": r"intermediate_(?:size=)?([0-9]{1,9})\b",
    }
    found = {key: re.search(pattern, text) for key, pattern in keys.items()}
    return {key: int(m.group(1)) for key, m in found.items() if m is not None}


def kv_heads_of(config: Mapping[str, Any], heads: int | None) -> int | None:
    """Key/value heads of an attention configuration; None where it does not say. `heads`: the parent\'s query heads."""
    if (kv := size_of(config, "num_key_value_heads")) is not None:
        return kv
    group = size_of(config, "n_heads_in_group")
    return None if heads is None or group is None or heads % group else heads // group


def width_of(config: Mapping[str, Any]) -> int | None:
    """The intermediate width of an FFN configuration; None where it does not say."""
    return size_of(config, "intermediate_size")


def size_of(sizes: Mapping[str, Any], key: str) -> int | None:
    """A size that a model may have."""
    value = sizes.get(key)
    return value if type(value) is int and 1 <= value <= MAX_SIZE else None
