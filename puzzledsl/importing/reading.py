"""Read another tool's JSON files with exact numbers, and extract their replacements."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeGuard

from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.families.config import MAX_LAYERS
from puzzledsl.importing.errors import ArtefactUnreadable

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
