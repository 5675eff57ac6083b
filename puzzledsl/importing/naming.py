"""Convert Puzzletron's block configurations to alternatives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from puzzledsl.base.diagnostics import Sink
from puzzledsl.importing.configs import kv_heads_of, part_of, width_of
from puzzledsl.importing.errors import NotInTheLanguage
from puzzledsl.importing.imported import Pair
from puzzledsl.ir.alternatives import (
    AttentionAlternative,
    FfnAlternative,
    GqaAttention,
    LinearAttention,
    LinearFfn,
    MlpFfn,
    NoOpAttention,
    NoOpFfn,
    ParentAttention,
    ParentFfn,
)
from puzzledsl.ir.nodes import Shape


@dataclass(slots=True)
class Naming:
    """Configurations to alternatives. What has no words here goes to `sink`, each kind once."""

    path: Path
    shape: Shape
    sink: Sink = field(default_factory=Sink)

    def pair(self, block: Mapping[str, Any]) -> Pair | None:
        """A block; None (reported) for one that this language cannot say."""
        if block.get("parallel_blocks"):
            self._cannot("a block of parallel blocks")
            return None
        attention, ffn = self.attention(part_of(block, "attention")), self.ffn(part_of(block, "ffn"))
        return None if attention is None or ffn is None else (attention, ffn)

    def attention(self, config: Mapping[str, Any]) -> AttentionAlternative | None:
        """An attention configuration."""
        if config.get("no_op"):
            return NoOpAttention()
        if config.get("replace_with_linear"):
            return LinearAttention()
        for kind in ("mamba", "llama4"):
            if config.get(kind):
                self._cannot(f"a {kind} attention")
                return None
        heads = kv_heads_of(config, self.shape.heads)
        if heads is None or self.shape.heads % heads:
            self._cannot("an attention without KV heads" if heads is None else f"{heads} KV heads")
            return None
        return ParentAttention() if heads == self.shape.kv_heads else GqaAttention(kv_heads=heads)

    def ffn(self, config: Mapping[str, Any]) -> FfnAlternative | None:
        """An FFN configuration."""
        if config.get("no_op"):
            return NoOpFfn()
        if config.get("replace_with_linear"):
            return LinearFfn()
        if config.get("moe"):
            self._cannot("a mixture of experts")
            return None
        width = width_of(config)
        if width is None:
            self._cannot("an FFN without a width")
            return None
        return ParentFfn() if width == self.shape.intermediate else MlpFfn(width=width)

    def _cannot(self, what: str) -> None:
        self.sink.add(NotInTheLanguage(None, what=what, path=self.path))
