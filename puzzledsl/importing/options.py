"""Blocks of options with a name and `stats` but no configuration: `attention = 8 kv heads (parent * 100%) && ffn = no_op (…)`.

The sizes are those in `stats` (`num_kv_heads`, `ffn_intermediate_size`; 0 for a no-op), since the name rounds widths.
The name says what 0 stands for, and must not contradict them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

from puzzledsl.importing.configs import part_of
from puzzledsl.importing.reading import is_number, unreadable

SIZES = {
    "attention": ("num_kv_heads", "num_key_value_heads"),
    "ffn": ("ffn_intermediate_size", "intermediate_size"),
}
"""Sub-block: its size in `stats`, and in a configuration."""
CORRECT = "correct the size in the file, or take the option out, and import again"
WIDTH_ROUNDED = re.compile(r"intermediate size [0-9.]+e[0-9]+")


def named_block(file: Path, name: str, stats: Mapping[str, Any]) -> Mapping[str, Any]:
    """The configuration of an option by its stats and its name. Raises DiagnosticError where these contradict each other."""
    block: dict[str, Any] = {"name": name}
    for part, (stat, key) in SIZES.items():
        named = part_of(block, part)
        if stat in stats:
            block[part] = _sized(file, name, named, stat, key, stats[stat])
        elif part == "ffn" and WIDTH_ROUNDED.search(name):
            raise unreadable(
                file, f"`{name[:60]}` has no `{stat}` in its `stats`, and its name rounds the width"
            )
    return block


def _sized(
    file: Path, name: str, named: Mapping[str, Any], stat: str, key: str, value: object
) -> Mapping[str, Any]:
    """One sub-block with the size in `stats`."""
    size = _whole(value)
    if size is None:
        raise unreadable(file, f"`{stat}` of `{name[:60]}` is no whole number from 0 on", CORRECT)
    here = f"`{name[:60]}` has `{stat}` {size}"
    if size == 0 and key in named:
        raise unreadable(file, f"{here}, but is no no-op by its name", CORRECT)
    if size == 0:
        return named or {"no_op": True}
    if "no_op" in named or "replace_with_linear" in named:
        raise unreadable(file, f"{here}, but none by its name", CORRECT)
    if named.get(key, size) != size:
        raise unreadable(file, f"{here}, but {named[key]} by its name", CORRECT)
    return {key: size}


def _whole(value: object) -> int | None:
    """A whole number from 0 on; None for anything else."""
    if not is_number(value) or not Decimal(value).is_finite() or value < 0 or value != int(value):
        return None
    return int(value)
