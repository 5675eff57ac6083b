"""Load a program from a file: read, parse, check, lower. The only way to do so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from puzzledsl.base.diagnostics import Diagnostic
from puzzledsl.ir.nodes import Program


@dataclass(frozen=True, slots=True)
class Checked:
    """The outcome of checking a file.

    `program` is None when there are errors; `sources` maps file names to text for rendering.
    """

    program: Program | None
    diagnostics: tuple[Diagnostic, ...]
    sources: Mapping[str, str]


def check_file(path: Path, settings: Mapping[str, str] | None = None) -> Checked:
    """Check and lower a `.pzl` file. `settings` are `--set NAME=VALUE` pairs. Never raises for a user's mistake."""
    from puzzledsl.checker.check import check

    return check(path, dict(settings or {}))
