"""Source places of IR nodes."""

from __future__ import annotations

from puzzledsl.ir.base import Frozen


class Where(Frozen):
    """The source place of an IR node: 1-based code points, end exclusive. `text` is the source that it covers."""

    file: str
    line: int
    column: int
    end_line: int
    end_column: int
    text: str = ""
