"""Open texts with their cached analyses, the project that holds them, and conversion from spans to an editor's positions."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

from lsprotocol import types
from pygls import uris

from puzzledsl.base.diagnostics import Diagnostic, Sink, Span
from puzzledsl.checker.again import Again
from puzzledsl.checker.check import LOWERINGS, Checked, inspect
from puzzledsl.checker.context import Context, Lower, OutOfSteps
from puzzledsl.checker.expressions.values import POISON, Scope, SourceFile, Symbol, Value
from puzzledsl.checker.names.names import Loader, key_of
from puzzledsl.checker.names.occurrences import Occurrence, occurrences
from puzzledsl.checker.names.words import value_of
from puzzledsl.server.parts import parse_parts
from puzzledsl.syntax import tree
from puzzledsl.syntax.parse import MAX_BYTES, normalise
from puzzledsl.syntax.tokens import Token, lex

MAX_FILES = 2000
_SKIPPED = {"node_modules", "build", "dist", "venv", "__pycache__"}
Encoding = Literal["utf-8", "utf-16", "utf-32"]
_BYTES = {"utf-8": 1, "utf-16": 2, "utf-32": 4}
_CODECS = {"utf-8": "utf-8", "utf-16": "utf-16-le", "utf-32": "utf-32-le"}


def units(text: str, encoding: Encoding) -> int:
    """Return the length of a text in code units of an encoding, which an editor counts columns in."""
    return len(text.encode(_CODECS[encoding], "surrogatepass")) // _BYTES[encoding]


class Lines:
    """Converter of a text's spans (code points from 1) and editor positions (units from 0). Beyond the end becomes the end."""

    def __init__(self, text: str, encoding: Encoding) -> None:
        self.lines, self.encoding = text.split("\n"), encoding

    def position(self, line: int, column: int) -> types.Position:
        """Convert a line and column of a span to the editor's position."""
        if line > len(self.lines):
            return types.Position(len(self.lines) - 1, units(self.lines[-1], self.encoding))
        before = self.lines[line - 1][: max(column - 1, 0)]
        return types.Position(line - 1, units(before, self.encoding))

    def range(self, span: Span) -> types.Range:
        """Convert a span to the editor's range."""
        return types.Range(*(self.position(at.line, at.column) for at in (span.start, span.end)))

    def place(self, position: types.Position) -> tuple[int, int]:
        """Convert an editor's position to a line and column of spans. A position inside a character becomes its start."""
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


@dataclass(eq=False)
class Document:
    """One version of a text: `source` as the editor sent it, `text` normalised. Analyses run when needed, and are cached."""

    uri: str
    path: Path
    source: str
    project: Project
    version: int | None = None

    def __post_init__(self) -> None:
        self.text, self.key = normalise(self.source), key_of(self.path)
        self.lines = Lines(self.text, self.project.encoding)

    @cached_property
    def parsed(self) -> tuple[tree.Module, list[Diagnostic]]:
        """The syntax tree and the syntax diagnostics of the text alone. No other file is read."""
        sink = Sink()
        module = parse_parts(self.text, str(self.path), sink)
        return module, sink.sorted()

    @property
    def used(self) -> Iterator[tree.Use]:
        """The `use` statements of the text."""
        yield from (item for item in self.parsed[0].items if isinstance(item, tree.Use))

    @cached_property
    def inspected(self) -> tuple[Checked, Context | None]:
        """The result of a check, and the checker's context (None if the text could not be loaded)."""
        return inspect(
            self.path, {}, self.project.unsaved(self), parse_parts, self.project.lowerings(self.uri)
        )

    @cached_property
    def file(self) -> SourceFile:
        """The text as a file with the names that it declares and imports. Values are not evaluated."""
        if "inspected" in self.__dict__ and (ctx := self.inspected[1]) is not None:
            return ctx.root
        root = Loader(Sink(), self.project.unsaved(self), parse_parts).root(self.path)
        assert root is not None, "its text is at hand"
        return root

    def value_at(self, expr: tree.Expr, within: str) -> Value:
        """Return an expression's value in the declaration named `within`; POISON if unknown. Reports no mistakes."""

        def value(ctx: Context) -> Value:
            symbol = ctx.root.names.get(within)
            scope = ctx.scopes.get(symbol) if isinstance(symbol, Symbol) else None
            return ctx.value(expr, scope or Scope(ctx.root))

        return self._quietly(value)

    def value_of(self, symbol: Symbol, within: str) -> Value:
        """Return the value of a `let` or `param`; POISON if unknown. `within`: the declaration around a local one."""
        ctx = self.inspected[1]
        known = None if ctx is None else ctx.symbol_at(symbol.place)
        if known is not None:
            return self._quietly(lambda ctx: value_of(ctx, known))
        return self.value_at(symbol.item.value, within) if isinstance(symbol.item, tree.Let) else POISON

    def _quietly(self, work: Callable[[Context], Value]) -> Value:
        ctx = self.inspected[1]
        if ctx is None:
            return POISON
        ctx.steps = 0
        try:
            return ctx.trial(lambda: work(ctx))[0]
        except (OutOfSteps, RecursionError):
            return POISON

    @cached_property
    def names(self) -> tuple[Occurrence, ...]:
        """Every name in the text with its meaning, in order."""
        return occurrences(self.file)

    def name_at(self, line: int, column: int) -> Occurrence | None:
        """Return the name at a position; None if there is none."""
        return next((o for o in reversed(self.names) if covers(o.span, line, column)), None)

    def symbol_at(self, line: int, column: int) -> Symbol | None:
        """Return the declaration that the name at a position refers to; None if there is none."""
        found = self.name_at(line, column)
        return found.symbol if found is not None and isinstance(found.symbol, Symbol) else None

    def token_at(self, line: int, column: int) -> Token | None:
        """Return the token of a line at a position, of two that touch there the word; None if there is no token."""
        if len(self.text) > MAX_BYTES or not 0 < line <= len(self.lines.lines):
            return None
        found = [t for t in lex(self.lines.lines[line - 1]) if t.column <= column <= t.end_column]
        for token in found:
            token.line = token.end_line = line
        words = [t for t in found if t.type in ("NAME", "QUANTITY", "STRING") or t.isalpha()]
        return words[-1] if words else found[-1] if found else None

    def uses(self, key: str) -> bool:
        """Return True if the text uses the file `key` (of `key_of`), also indirectly, or if a failed `use` names it."""
        if any(file.key == key for file in files_of(self.file).values()):
            return True
        return any(key_of(self.path.parent / use.path.value) == key for use in self.used)


def files_of(file: SourceFile) -> dict[str, SourceFile]:
    """Return a file and all files that it uses, directly or indirectly, by the names that spans have for them."""
    found: dict[str, SourceFile] = {}
    queue = [file]
    while queue:
        top = queue.pop()
        if top.file not in found:
            found[top.file] = top
            queue += top.uses.values()
    return found


@dataclass(eq=False)
class Project:
    """The open documents by URI, and the workspace folders. `lowered`: cached lowerings of open texts, by URI and kind."""

    encoding: Encoding = "utf-16"
    folders: list[Path] = field(default_factory=list)
    documents: dict[str, Document] = field(default_factory=dict)
    lowered: dict[str, dict[str, Lower]] = field(default_factory=dict)

    def lowerings(self, uri: str) -> dict[str, Lower]:
        """Return the lowering of each kind of declaration. For an open text, spaces and searches are cached between checks."""
        if uri not in self.documents:
            return LOWERINGS
        return self.lowered.setdefault(
            uri, LOWERINGS | {kind: Again(LOWERINGS[kind]) for kind in ("space", "search")}
        )

    def open(self, uri: str, source: str, version: int | None = None) -> Document:
        """Make a text the current one of `uri` and return its document. The analyses of all texts are discarded."""
        path = uris.to_fs_path(uri) if uri.startswith("file:") else None
        if not path:  # a text without a file is placed in the workspace
            top = self.folders[0] if self.folders else Path.cwd()
            path = str(top / f"{Path(uri.partition(':')[2]).name or 'untitled'}.pzl")
        self.forget()
        self.documents[uri] = Document(uri, Path(path), source, self, version)
        return self.documents[uri]

    def close(self, uri: str) -> None:
        """Discard the open text of a URI; its file on disk counts again."""
        self.documents.pop(uri, None)
        self.lowered.pop(uri, None)
        self.forget()

    def forget(self) -> None:
        """Discard the analyses of all open texts, so that files which they use are read again when needed."""
        for uri, old in self.documents.items():
            self.documents[uri] = Document(uri, old.path, old.source, self, old.version)

    def unsaved(self, first: Document) -> dict[str, str]:
        """Return the open texts by file key, to be read in place of files; `first` replaces another text of its file."""
        return {d.key: d.source for d in (*self.documents.values(), first)}

    def document(self, path: Path) -> Document | None:
        """Return the open text of a file, or its text on disk; None if it cannot be read or is too large."""
        key = key_of(path)
        for document in self.documents.values():
            if document.key == key:
                return document
        try:
            if path.stat().st_size > MAX_BYTES:
                return None
            return Document(self.uri_of(path), path, path.read_text("utf-8"), self)
        except (OSError, ValueError):
            return None

    def uri_of(self, path: Path) -> str:
        """Return the URI of a file: the one by which the editor opened it, if it did."""
        key = key_of(path)
        known = next((d.uri for d in self.documents.values() if d.key == key), None)
        return known or uris.from_fs_path(str(Path(os.path.abspath(path)))) or path.as_uri()

    def programs(self) -> Iterator[Document]:
        """Yield every open text, then in a fixed order up to MAX_FILES other `.pzl` files of the workspace."""
        seen = set()
        for document in list(self.documents.values()):
            seen.add(document.key)
            yield document
        for path in self._paths():
            other = self.document(path) if key_of(path) not in seen else None
            if other is not None:
                seen.add(other.key)
                yield other

    def _paths(self) -> Iterator[Path]:
        folders = self.folders or [d.path.parent for d in self.documents.values()]
        count = 0
        for top in dict.fromkeys(folders):
            for at, inner, names in os.walk(top):
                inner[:] = sorted(n for n in inner if n not in _SKIPPED and not n.startswith("."))
                for name in sorted(n for n in names if n.endswith(".pzl")):
                    yield Path(at, name)
                    count += 1
                    if count >= MAX_FILES:
                        return
