"""Read gathered metrics in one JSON file: replacement -> metrics and stats, or layer -> option -> metrics and stats."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

from puzzledsl.importing.options import named_block
from puzzledsl.importing.reading import Replacement, checked_layer, is_number, read_json, unreadable


def gathered(file: Path) -> Iterator[Replacement]:
    """The replacements of a file of gathered metrics. Raises DiagnosticError."""
    raw = read_json(file)
    if _is_unscored(raw):
        reason = "it is a library of replacements without metrics, which are gathered after scoring"
        raise unreadable(file, reason, "give the directory of the run that scored them")
    if not isinstance(raw, dict) or not raw:
        raise unreadable(file, "an object of replacements is expected")
    for name, entry in raw.items():
        if not isinstance(entry, dict):
            raise unreadable(file, f"`{name[:60]}` is no object")
        if "metrics" in entry:
            match entry.get("parent_layer_indices", [entry.get("block_idx")]):
                case [int(layer)]:
                    yield _option(file, name, checked_layer(file, layer), entry)
                case _:
                    raise unreadable(file, f"`{name[:60]}` does not replace one layer")
            continue
        numbered = re.fullmatch(r"\D*([0-9]{1,9})\D*", name)
        if numbered is None:
            raise unreadable(file, f"`{name[:60]}` names no layer")
        layer = checked_layer(file, int(numbered.group(1)))
        for option, inner in entry.items():
            if not isinstance(inner, dict):
                raise unreadable(file, f"`{option[:60]}` of `{name[:60]}` is no object")
            yield _option(file, option, layer, inner)


def _is_unscored(raw: object) -> bool:
    """True for the list of replacements that scoring starts from, alone or as the `entries` of an object."""
    entries = raw.get("entries") if isinstance(raw, dict) else raw
    first = entries[0] if isinstance(entries, list) and entries else None
    return isinstance(first, dict) and "parent_layer_indices" in first


def _option(file: Path, name: str, layer: int, entry: Mapping[str, Any]) -> Replacement:
    metrics, block = entry.get("metrics"), entry.get("block_config") or entry.get("child_block_configs")
    if isinstance(block, list) and len(block) == 1:
        block = block[0]
    if not isinstance(metrics, dict):
        raise unreadable(file, f"`{name[:60]}` has no `metrics`")
    numbers = {n: Decimal(v) for n, v in metrics.items() if is_number(v) and not n.startswith("one_minus_")}
    stats = entry.get("stats")
    stats = stats if isinstance(stats, dict) else {}
    if not isinstance(block, dict):
        block = named_block(file, name, stats)
    return Replacement(layer, block, numbers, bool(entry.get("is_teacher", False)), stats)
