"""The content of a Puzzletron run in the terms of this language.

Read another tool's JSON files with exact numbers, and extract their replacements.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeGuard

from puzzledsl.alternatives.registry import AttentionAlternative, FfnAlternative
from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.families.config import MAX_LAYERS
from puzzledsl.importing.errors import ArtefactUnreadable
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


HELP = "was it copied whole, and is it of this version of the tool?"
MAX_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class Replacement:
    """One option of one layer as its tool writes it. `block`: its configuration; `stats`: where gathered with the metrics."""

    layer: int
    block: Mapping[str, Any]
    metrics: Mapping[str, Decimal]
    is_teacher: bool
    stats: Mapping[str, Any] = field(default_factory=dict)


def read_json(file: Path) -> Any:
    """A file's JSON, numbers as the decimals they are written as. Raises DiagnosticError."""
    try:
        if file.stat().st_size > MAX_BYTES:
            raise unreadable(file, "it is larger than any artefact")
        return json.loads(file.read_bytes(), parse_float=Decimal, parse_constant=Decimal)
    except OSError as error:
        raise unreadable(file, error.strerror or "not readable") from error
    except (ValueError, RecursionError) as error:
        raise unreadable(file, "it is no JSON") from error


def unreadable(file: Path, reason: str, help: str = HELP) -> DiagnosticError:
    """The error that ends an import at a damaged or foreign file."""
    return DiagnosticError(ArtefactUnreadable(None, path=file, reason=reason, help=help))


def checked_layer(file: Path, layer: int) -> int:
    """A layer that a model may have. Raises DiagnosticError."""
    if not 0 <= layer < MAX_LAYERS:
        raise unreadable(file, f"layer {str(layer)[:20]} is none of a model of up to {MAX_LAYERS} layers")
    return layer


def is_number(value: object) -> TypeGuard[int | Decimal]:
    """True for a number of JSON, which may be infinite or none."""
    return isinstance(value, int | Decimal) and not isinstance(value, bool)
