"""Conversion of lines and columns to the editor's: from 0, in UTF-16 units unless another encoding was negotiated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lsprotocol import types

from puzzledsl.base.diagnostics import Span

Encoding = Literal["utf-8", "utf-16", "utf-32"]
_BYTES = {"utf-8": 1, "utf-16": 2, "utf-32": 4}
_CODECS = {"utf-8": "utf-8", "utf-16": "utf-16-le", "utf-32": "utf-32-le"}


def units(text: str, encoding: Encoding) -> int:
    """Return the length of a text in units of an encoding."""
    return len(text.encode(_CODECS[encoding], "surrogatepass")) // _BYTES[encoding]


@dataclass(frozen=True, slots=True)
class Lines:
    """The lines of a text, for the conversion of positions. A position beyond the end is moved to the end."""

    lines: tuple[str, ...]
    encoding: Encoding = "utf-16"

    @classmethod
    def of(cls, text: str, encoding: Encoding) -> Lines:
        """Return the lines of a text that ends them with a line feed."""
        return cls(tuple(text.split("\n")), encoding)

    def position(self, line: int, column: int) -> types.Position:
        """Convert a line and column of a span to the editor's position."""
        if line > len(self.lines):
            return types.Position(len(self.lines) - 1, units(self.lines[-1], self.encoding))
        before = self.lines[line - 1][: max(column - 1, 0)]
        return types.Position(line - 1, units(before, self.encoding))

    def range(self, span: Span) -> types.Range:
        """Convert a span to the editor's range."""
        return types.Range(
            self.position(span.line, span.column), self.position(span.end_line, span.end_column)
        )

    def place(self, position: types.Position) -> tuple[int, int]:
        """Convert an editor's position to a line and column of spans. One inside a character is moved before it."""
        if position.line >= len(self.lines):
            return len(self.lines), len(self.lines[-1]) + 1
        line, column, used = self.lines[position.line], 1, 0
        for character in line:
            used += units(character, self.encoding)
            if used > position.character:
                break
            column += 1
        return position.line + 1, column


def covers(span: Span, line: int, column: int) -> bool:
    """Return True for a position inside a span or at either end of it."""
    return (span.line, span.column) <= (line, column) <= (span.end_line, span.end_column)
