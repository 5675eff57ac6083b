"""Where in a source a thing of the IR was written."""

from __future__ import annotations

from puzzledsl.ir.base import Frozen


class Where(Frozen):
    """Where in the source a thing was written. 1-based code points, end exclusive; `text` is the source it covers."""

    file: str
    line: int
    column: int
    end_line: int
    end_column: int
    text: str = ""
