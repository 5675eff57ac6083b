"""What is read of a Puzzletron run, in the terms of this language."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from puzzledsl.ir.alternatives import (
    AttentionAlternative,
    FfnAlternative,
)
from puzzledsl.ir.nodes import Shape

Pair = tuple[AttentionAlternative, FfnAlternative]


@dataclass(frozen=True, slots=True)
class SubBlockCost:
    """What one sub-block (or, without both, the part no layer changes) costs in one measurement. `layer` None: in every layer."""

    layer: int | None
    attention: AttentionAlternative | None
    ffn: FfnAlternative | None
    params: int | None
    memory_mib: Decimal | None
    kv_cache_mib: Decimal | None
    latency_ms: Decimal | None


@dataclass(frozen=True, slots=True)
class Measurement:
    """One scenario: `name` is an identifier; lengths in tokens."""

    name: str
    batch: int
    prompt: int
    output: int
    args: Mapping[str, Any]
    costs: tuple[SubBlockCost, ...]


@dataclass(slots=True)
class Imported:
    """All of a run. `scores[metric][layer, attention, ffn]` is how much worse the parent gets (0 for the parent's own blocks)."""

    source: Path
    shape: Shape
    parent: Path | None
    layers: list[dict[Pair, None]]
    scores: dict[str, dict[tuple[int, Pair], Decimal]] = field(default_factory=dict)
    measurements: list[Measurement] = field(default_factory=list)
    solutions: list[tuple[str, Mapping[str, Any]]] = field(default_factory=list)
    left_out: int = 0  # replacements whose metrics are not finite
    unanchored: dict[str, None] = field(
        default_factory=dict
    )  # metrics left out, the parent's own being unknown
