"""Convert Puzzletron's block configurations to alternatives."""

from __future__ import annotations

from collections.abc import Mapping
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
from puzzledsl.importing.configs import kv_heads_of, part_of, width_of
from puzzledsl.importing.errors import NotInTheLanguage
from puzzledsl.importing.imported import Pair
from puzzledsl.ir.nodes import Shape


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
