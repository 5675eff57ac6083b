"""Convert Puzzletron's block configurations to alternatives.

Sizes in Puzzletron's block configurations, which use several names for the same field.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from puzzledsl.alternatives.registry import (
    ATTENTION,
    FFN,
    AttentionAlternative,
    FfnAlternative,
    from_block_config,
)
from puzzledsl.base.diagnostics import Sink
from puzzledsl.families.config import MAX_SIZE
from puzzledsl.importing.errors import NotInTheLanguage
from puzzledsl.importing.imported import Pair
from puzzledsl.ir.nodes import Shape


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


@dataclass(slots=True)
class Naming:
    """Configurations to alternatives. What has no words here goes to `sink`, each kind once."""

    path: Path
    shape: Shape
    sink: Sink = field(default_factory=Sink)

    def pair(self, block: Mapping[str, Any], layer: int | None = None) -> Pair | None:
        """A block, of a layer if it is known; None (reported) for one that this language cannot say."""
        if block.get("parallel_blocks"):
            self._cannot("a block of parallel blocks")
            return None
        attention, ffn = (
            self.attention(part_of(block, "attention"), layer),
            self.ffn(part_of(block, "ffn"), layer),
        )
        return None if attention is None or ffn is None else (attention, ffn)

    def attention(self, config: Mapping[str, Any], layer: int | None = None) -> AttentionAlternative | None:
        """An attention configuration."""
        own = self._own(layer)
        entry = _flags(config)
        if not any(entry.values()):
            for kind in ("mamba", "llama4"):
                if config.get(kind):
                    self._cannot(f"a {kind} attention")
                    return None
            heads = kv_heads_of(config, own.heads)
            if heads is None or own.heads % heads:
                self._cannot("an attention without KV heads" if heads is None else f"{heads} KV heads")
                return None
            entry["n_heads_in_group"] = own.heads // heads
        return from_block_config(ATTENTION, entry, own)

    def ffn(self, config: Mapping[str, Any], layer: int | None = None) -> FfnAlternative | None:
        """An FFN configuration."""
        entry = _flags(config)
        if not any(entry.values()):
            if config.get("moe"):
                self._cannot("a mixture of experts")
                return None
            width = width_of(config)
            if width is None:
                self._cannot("an FFN without a width")
                return None
            entry["intermediate_size"] = width
        return from_block_config(FFN, entry, self._own(layer))

    def _own(self, layer: int | None) -> Shape:
        return self.shape if layer is None or layer >= self.shape.layers else self.shape.at(layer)

    def _cannot(self, what: str) -> None:
        self.sink.add(NotInTheLanguage(None, what=what, path=self.path))


def _flags(config: Mapping[str, Any]) -> dict[str, Any]:
    return {key: bool(config.get(key)) for key in ("no_op", "replace_with_linear")}
