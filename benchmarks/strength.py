"""The recorded strength of the tests, benchmarks/strength.json: branches and lines by folder, and seeded mutants of five folders.

`make strength` measures it again and fails where a share is smaller; `make strength STRENGTH_ARGS=--write` records it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

UNNOTICED: tuple[Literal["survived", "not reached"], ...] = ("survived", "not reached")
SLACK = 0.5
"""Per cent that a share may lie below the recorded one: what chance moves."""


def noticed(fates: Mapping[str, int]) -> list[float]:
    """The share of mutants that tests noticed, in per cent."""
    caught = sum(count for fate, count in fates.items() if fate not in UNNOTICED)
    return [100 * caught / max(1, sum(fates.values()))]


def compared(
    file: Path, kind: str, found: Mapping[str, Any], shares: Callable[[Any], list[float]], write: bool
) -> int:
    """1 where a share of something that is found lies below the recorded one; where asked, record it in its place."""
    record = json.loads(file.read_text("utf-8")) if file.exists() else {}
    before = record.setdefault(kind, {})
    if write:
        before |= found
        record = {name: dict(sorted(record[name].items())) for name in sorted(record)}
        file.write_text(json.dumps(record, indent=1) + "\n", "utf-8")
        return 0
    code = 0
    for name in found.keys() & before.keys():
        pairs = zip(shares(found[name]), shares(before[name]), strict=True)
        if any(now < was - SLACK for now, was in pairs):
            print(f"error: {kind} of {name}: {found[name]}, recorded {before[name]}", file=sys.stderr)
            code = 1
    return code
