"""Text of a program with its syntax tree: places of nodes as offsets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from puzzledsl.base.diagnostics import Sink, Span
from puzzledsl.syntax import tree
from puzzledsl.syntax.parse import parse


@dataclass(frozen=True)
class Source:
    """A text that parses. `file`: its name in places."""

    text: str
    file: str

    @cached_property
    def module(self) -> tree.Module:
        """The syntax tree."""
        return parse(self.text, self.file, Sink())

    @cached_property
    def _lines(self) -> list[int]:
        """Offset of the first character of each line."""
        starts = [0]
        for number, character in enumerate(self.text):
            if character == "\n":
                starts.append(number + 1)
        return starts

    def offset(self, line: int, column: int) -> int:
        """Return the offset of a place, both counted from 1."""
        return self._lines[line - 1] + column - 1

    def reach(self, span: Span) -> tuple[int, int]:
        """Return the offsets of a span, end exclusive."""
        return self.offset(span.line, span.column), self.offset(span.end_line, span.end_column)

    def slice(self, span: Span) -> str:
        """Return the text of a span."""
        start, stop = self.reach(span)
        return self.text[start:stop]

    def declaration(self, kind: str, name: str) -> tree.Decl | None:
        """Return a declaration; None if this file has none of that name."""
        found = (i for i in self.module.items if isinstance(i, tree.Decl))
        return next((d for d in found if d.kind.text == kind and d.name.text == name), None)

    @cached_property
    def requirements(self) -> tuple[tree.Require, ...]:
        """Every `require` statement of the file, in order."""
        bodies = (item.body for item in self.module.items if isinstance(item, tree.Decl) and item.body)
        return tuple(found for body in bodies for found in _requirements(body))


def _requirements(body: tuple[tree.Stmt, ...]) -> Iterator[tree.Require]:
    for statement in body:
        match statement:
            case tree.Require():
                yield statement
            case tree.ForAll() | tree.Section():
                yield from _requirements(statement.body)
            case _:
                pass


def compared(condition: tree.Expr) -> Iterator[tree.Expr]:
    """Yield the operands of every comparison of a condition, in order."""
    match condition:
        case tree.Compare():
            yield from condition.operands
        case tree.Binary(left=left, right=right):
            yield from compared(left)
            yield from compared(right)
        case tree.Unary(operand=operand):
            yield from compared(operand)
        case _:
            pass


def replaced(source: Source, edits: Sequence[tuple[Span, str]]) -> str:
    """Return the text with spans replaced. The spans do not overlap."""
    text = source.text
    for start, stop, new in sorted(((*source.reach(span), new) for span, new in edits), reverse=True):
        text = text[:start] + new + text[stop:]
    return text
