"""The content of a Puzzletron run in the terms of this language."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from puzzledsl.alternatives.registry import AttentionAlternative, FfnAlternative
from puzzledsl.ir.nodes import Shape

Pair = tuple[AttentionAlternative, FfnAlternative]


@dataclass(frozen=True, slots=True)
class SubBlockCost:
    """The cost of one sub-block in one measurement; with neither, of the part that no layer changes.

    `layer` None: the same cost in every layer.
    """

    layer: int | None
    attention: AttentionAlternative | None
    ffn: FfnAlternative | None
    params: int | None
    memory_mib: Decimal | None
    kv_cache_mib: Decimal | None
    latency_ms: Decimal | None


@dataclass(frozen=True, slots=True)
class Measurement:
    """One scenario. `name` is a valid identifier; lengths are in tokens."""

    name: str
    batch: int
    prompt: int
    output: int
    args: Mapping[str, Any]
    costs: tuple[SubBlockCost, ...]


@dataclass(slots=True)
class Imported:
    """The content of a run. `scores[metric][layer, (attention, ffn)]` is the degradation of the parent by that replacement."""

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
