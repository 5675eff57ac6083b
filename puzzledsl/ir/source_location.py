"""Source places of IR nodes, and their spans for diagnostics."""

from __future__ import annotations

from puzzledsl.base.diagnostics import Span
from puzzledsl.base.frozen import Frozen


class Where(Frozen):
    """The source place of an IR node: 1-based code points, end exclusive. `text` is the source that it covers."""

    file: str
    line: int
    column: int
    end_line: int
    end_column: int
    text: str = ""


def span_of(where: Where, file: str | None = None) -> Span:
    """Return a place as a span for diagnostics. `file`: another name for its file."""
    return Span(file or where.file, where.line, where.column, where.end_line, where.end_column)
