"""Text of a checked program with its syntax tree: places of nodes as offsets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import cached_property

from puzzledsl.base.diagnostics import Span
from puzzledsl.base.units import Quantity
from puzzledsl.checker.context import Context
from puzzledsl.syntax import tree


@dataclass(frozen=True)
class Source:
    """A text that was checked. `file` is its name in places, `compared` the values of the constant sides of its comparisons."""

    text: str
    file: str
    module: tree.Module
    compared: Mapping[Span, AbstractSet[Quantity]]

    @classmethod
    def checked(cls, found: Context) -> Source:
        """Return the text of a program, with what its check found out."""
        return cls(found.root.text, found.root.file, found.root.module, found.compared)

    @cached_property
    def _lines(self) -> list[int]:
        """Offset of the first character of each line."""
        return [0, *(at + 1 for at, character in enumerate(self.text) if character == "\n")]

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

    def search(self, name: str) -> tree.Decl | None:
        """Return the declaration of a search; None if this file has none of that name."""
        found = (i for i in self.module.items if isinstance(i, tree.Decl) and i.kind.text == "search")
        return next((d for d in found if d.name.text == name), None)

    @cached_property
    def requirements(self) -> tuple[tree.Require, ...]:
        """Every `require` statement of the file, in order."""
        return tuple(node for node in tree.walk(self.module) if isinstance(node, tree.Require))


def compared(condition: tree.Expr) -> Iterator[tree.Expr]:
    """Yield the operands of every comparison of a condition, in order; those inside calls belong to something else."""
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
