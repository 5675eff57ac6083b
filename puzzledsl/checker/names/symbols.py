"""Files of a program, the names that they declare, and scopes inside them.

A syntax error can hide a declared name, a part of a body or arguments of a call. Near one, the checker suppresses
diagnostics that such a loss would cause. The rest of the file is checked as usual.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Generic, Self, TypeVar

from puzzledsl.base.diagnostics import Diagnostic, Span
from puzzledsl.base.frozen import record
from puzzledsl.base.suggest import closest
from puzzledsl.language.kinds import KINDS
from puzzledsl.syntax import tree

if TYPE_CHECKING:
    from puzzledsl.checker.expressions.values import Poison, Value

T = TypeVar("T")
STD = "std/"
"""Paths of files that ship with the package begin so."""
_DECLARING = (*KINDS, "param", "let", "fn")


@dataclass(slots=True, eq=False)
class Symbol:
    """A declared name. `kind` is a declaration's kind, or `param`, `let`, `fn`, `file`.

    A name that only a part of a declaration sees is a `let`, `variable` or `parameter`; `item` is then the whole
    declaration, or the `let` itself.
    """

    name: str
    kind: str
    item: tree.Item
    file: SourceFile
    span: Span
    target: SourceFile | None = None  # of a `file`
    value: Value | None = None  # of a `let` or `param`, once evaluated
    busy: bool = False

    @property
    def place(self) -> tuple[str, int, int]:
        """Its file, line and column, by which it is known again in another check."""
        return self.file.key, self.span.line, self.span.column


def declared(item: tree.Param | tree.Fn | tree.Let | tree.Decl, file: SourceFile) -> Symbol:
    """Return the name that an item of a file declares, if no other item has taken it."""
    kind = item.kind.text if isinstance(item, tree.Decl) else type(item).__name__.lower()
    return Symbol(item.name.text, kind, item, file, item.name.span)


@dataclass(slots=True, eq=False)
class SourceFile:
    """A parsed file. `file` names it in spans, `shown` in the IR (relative to the program, never a machine path).

    `key` is its real path, the same for all ways to it.
    """

    file: str
    shown: str
    path: Path
    text: str
    module: tree.Module
    key: str
    names: dict[str, Symbol | Poison] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)
    error_lines: set[int] = field(default_factory=set)  # of what the parser reported
    error_ranges: list[tuple[int, int]] = field(
        default_factory=list
    )  # and of its labels, such as the open brace
    lost_names: bool = False  # names may be declared that cannot be seen: a file used whole that is not there
    unread: int = 0  # how often a name was one that parsing may have lost

    def __post_init__(self) -> None:
        self.lines = self.text.split("\n")

    def symbols(self, *kinds: str) -> list[Symbol]:
        """Return the declarations of some kinds, of any where none is given, in order."""
        found = (s for s in self.names.values() if isinstance(s, Symbol))
        return [s for s in found if not kinds or s.kind in kinds]

    @property
    def is_std(self) -> bool:
        """True for a file that ships with the package."""
        return self.shown.startswith(STD)

    def note_errors(self, mistakes: Iterable[Diagnostic]) -> None:
        """Note where the parser reported something. An unknown number of names is lost by a broken `use`, or without a name."""
        for mistake in mistakes:
            if mistake.span is not None:
                spans = [mistake.span, *(label.span for label in mistake.secondary)]
                self.error_lines.update(range(mistake.span.line, mistake.span.end_line + 1))
                self.error_ranges.append((min(s.line for s in spans), max(s.end_line for s in spans)))
        declared = (item for item in self.module.items if not isinstance(item, tree.Use | tree.Assert))
        nameless = self.module.broken and any(not item.name.text for item in declared)
        self.lost_names = nameless or any(
            '.pzl"' in s or re.match(r"\s*use\b", s) for s in self._error_texts()
        )

    def _error_texts(self) -> list[str]:
        return [self.lines[n - 1] for n in sorted(self.error_lines) if n <= len(self.lines)]

    def declares_unread(self, name: str) -> bool:
        """True where the text seems to declare `name` but parsing lost it: its uses are no further mistake."""
        if not self.module.broken:
            return False
        word = re.compile(rf"\b{re.escape(name)}\b")
        head, used = re.compile(rf"\s*(\w+)\s+{word.pattern}"), re.compile(rf"\s*use\b.*{word.pattern}")
        lines = [line for line in self.lines if name in line]
        found = any(map(word.search, self._error_texts())) or any(map(used.match, lines))
        found = found or any(_may_declare(match.group(1)) for match in map(head.match, lines) if match)
        self.unread += found
        return found

    def is_damaged(self, span: Span, margin: int = 0) -> bool:
        """True where the parser reported something within a span, or `margin` lines of it: a part of it may be lost."""
        first, last = span.line - margin, span.end_line + margin
        return any(start <= last and first <= end for start, end in self.error_ranges)

    def source(self, span: Span) -> str:
        """The text a span of this file covers."""
        if span.line == span.end_line <= len(self.lines):
            return self.lines[span.line - 1][span.column - 1 : span.end_column - 1]
        return span.cut(self.lines)


@lru_cache(maxsize=1024)
def _may_declare(head: str) -> bool:
    """Return True for a word that declares, or nearly does. The same words are asked about at every keystroke."""
    return head in _DECLARING or closest(head, _DECLARING) is not None


@record(eq=False)
class LocalNames(Generic[T]):
    """Local names with what they stand for, then an outer scope's, then the file's."""

    file: SourceFile
    names: dict[str, T] = field(default_factory=dict)
    outer: Self | None = None

    def inner(self, names: dict[str, T] | None = None) -> Self:
        """A scope inside this one."""
        return type(self)(self.file, {} if names is None else names, self)

    def local(self, name: str) -> T | None:
        """Return what stands for a name bound by a body, a `for` or a `fn`; None where there is none."""
        scope: LocalNames[T] | None = self
        while scope is not None:
            if name in scope.names:
                return scope.names[name]
            scope = scope.outer
        return None

    def all_local(self) -> dict[str, T]:
        """Every local name, nearest first."""
        outer = {} if self.outer is None else self.outer.all_local()
        return self.names | {name: found for name, found in outer.items() if name not in self.names}


class Scope(LocalNames["Value"]):
    """Names visible to an expression, with their values."""

    def visible(self) -> list[str]:
        """Every name that could be meant here, nearest first."""
        return list(dict.fromkeys((*self.all_local(), *self.file.names)))
