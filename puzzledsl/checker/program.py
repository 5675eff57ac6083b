"""The outcome of checking a file."""

from __future__ import annotations

from collections.abc import Mapping

from puzzledsl.base.diagnostics import Diagnostic
from puzzledsl.base.frozen import record
from puzzledsl.ir.nodes import Program


@record
class Checked:
    """The outcome of checking a file.

    `program` is None when there are errors; `sources` maps file names to text for rendering.
    """

    program: Program | None
    diagnostics: tuple[Diagnostic, ...]
    sources: Mapping[str, str]
