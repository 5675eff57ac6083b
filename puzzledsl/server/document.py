"""One version of one open text, and what is known of it; and the texts that are open together."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from lark import Token
from pygls import uris

from puzzledsl.diagnostics import Diagnostic, Sink, Span
from puzzledsl.ir.check import inspect
from puzzledsl.ir.context import Context
from puzzledsl.ir.names import Loader, SourceFile
from puzzledsl.ir.program import Checked
from puzzledsl.lang import tree
from puzzledsl.lang.grammar import lex
from puzzledsl.lang.parse import MAX_BYTES, normalise
from puzzledsl.server.bindings import bindings
from puzzledsl.server.meanings import Occurrence
from puzzledsl.server.paths import key_of
from puzzledsl.server.positions import Encoding, Lines, covers
from puzzledsl.server.trees import Trees

MAX_FILES = 2000
LONG = 400
"""Lines from which on a text is not parsed anew for every letter."""
_SKIPPED = {"node_modules", "build", "dist", "venv", "__pycache__"}


@dataclass(eq=False)
class Document:
    """A text as it stands now. Everything about it is worked out when it is first asked for, and kept."""

    uri: str
    path: Path
    source: str
    project: Project
    version: int | None = None
    before: SourceFile | None = None  # what was known of an earlier version

    @cached_property
    def text(self) -> str:
        """The text as the parser reads it."""
        return normalise(self.source)

    @cached_property
    def key(self) -> str:
        """What names its file."""
        return key_of(self.path)

    @cached_property
    def lines(self) -> Lines:
        """Its lines, to translate places."""
        return Lines.of(self.text, self.project.encoding)

    @cached_property
    def tokens(self) -> list[Token]:
        """Its tokens, comments and newlines included; none of a text too large to be a program."""
        return list(lex(self.text)) if len(self.text) <= MAX_BYTES else []

    @cached_property
    def parsed(self) -> tuple[tree.Module, list[Diagnostic]]:
        """Its syntax tree and what is wrong with its syntax. Nothing else is read."""
        sink = Sink()
        module = self.project.trees.parse(self.text, str(self.path), sink)
        return module, sink.sorted()

    @cached_property
    def inspected(self) -> tuple[Checked, Context | None]:
        """The outcome of a check, and all that was found out on the way."""
        return inspect(self.path, {}, self.project.unsaved(self), self.project.trees.parse)

    @cached_property
    def file(self) -> SourceFile:
        """The text as a file with the names it declares and uses. Its values are not worked out."""
        if "inspected" in self.__dict__ and (ctx := self.inspected[1]) is not None:
            return ctx.root
        root = Loader(Sink(), self.project.unsaved(self), self.project.trees.parse).root(self.path)
        assert root is not None, "its text is at hand"
        return root

    @property
    def lately(self) -> SourceFile:
        """The file, or in a long text an earlier version of it: good enough for its names, and at hand while one types."""
        if self.before is not None and len(self.lines.lines) > LONG and not self.is_read:
            return self.before
        return self.file

    @property
    def is_read(self) -> bool:
        """True once `file` costs nothing."""
        return "file" in self.__dict__ or "inspected" in self.__dict__

    @cached_property
    def names(self) -> list[Occurrence]:
        """Every name in it with what it means, in order."""
        return bindings(self.file)

    def name_at(self, line: int, column: int) -> Occurrence | None:
        """The name at a place."""
        found = [o for o in self.names if covers(o.span, line, column)]
        return found[-1] if found else None

    @cached_property
    def files(self) -> dict[str, SourceFile]:
        """This file and those it uses, by what names them in spans."""
        return files_of(self.file)

    def uses(self, key: str) -> bool:
        """True where it uses a file, itself or through others; one it names but cannot find may be that file."""
        if any(key_of(f.path) == key for f in self.files.values()):
            return True
        return any(
            key_of(self.path.parent / item.path.value) == key
            for item in self.parsed[0].items
            if isinstance(item, tree.Use)
        )

    def token_at(self, line: int, column: int) -> Token | None:
        """The token that covers a place; of two that touch there, the word rather than the sign."""
        found = [t for t in self.tokens if t.type != "_NL" and covers(span_of(t, ""), line, column)]
        words = [t for t in found if t.type in ("NAME", "QUANTITY", "STRING") or t.isalpha()]
        return words[-1] if words else found[-1] if found else None


def span_of(token: Token, file: str) -> Span:
    """Where a token stands."""
    line, column = token.line or 1, token.column or 1
    return Span(file, line, column, token.end_line or line, token.end_column or column)


def files_of(file: SourceFile) -> dict[str, SourceFile]:
    """A file and those it uses, itself or through others, by what names them in spans."""
    found = {file.file: file}
    queue = [file]
    while queue:
        for other in used_files(queue.pop()):
            if other.file not in found:
                found[other.file] = other
                queue.append(other)
    return found


def used_files(file: SourceFile) -> list[SourceFile]:
    """The files that the names of a file come from."""
    found: dict[int, SourceFile] = {}
    for symbol in file.names.values():
        for other in (getattr(symbol, "target", None), getattr(symbol, "file", None)):
            if isinstance(other, SourceFile) and other is not file:
                found[id(other)] = other
    return list(found.values())


@dataclass(eq=False)
class Project:
    """The open documents and the folders around them."""

    encoding: Encoding = "utf-16"
    folders: list[Path] = field(default_factory=list)
    documents: dict[str, Document] = field(default_factory=dict)
    trees: Trees = field(default_factory=Trees)

    def open(self, uri: str, source: str, version: int | None = None) -> Document:
        """Take a text for the one of `uri` from now on; what was known of texts that may use it is forgotten."""
        old = self.documents.get(uri)
        before = None if old is None else old.file if old.is_read else old.before
        document = Document(uri, self._path(uri), source, self, version, before)
        self.forget()
        self.documents[uri] = document
        return document

    def close(self, uri: str) -> None:
        """Read the file from its folder again."""
        self.documents.pop(uri, None)
        self.forget()

    def forget(self) -> None:
        """Read every used file again when it is next needed."""
        for uri, old in self.documents.items():
            self.documents[uri] = Document(uri, old.path, old.source, self, old.version, old.before)

    def unsaved(self, first: Document) -> dict[str, str]:
        """The texts that stand for files' own, `first` before any other of the same file."""
        return {d.key: d.source for d in (*self.documents.values(), first)}

    def document(self, path: Path) -> Document | None:
        """The open text of a file, or the file's own; None where it cannot be read."""
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
        """What an editor calls a file: the URI it opened it by, where it did."""
        key = key_of(path)
        known = next((d.uri for d in self.documents.values() if d.key == key), None)
        return known or uris.from_fs_path(str(Path(os.path.abspath(path)))) or path.as_uri()

    def lines(self, file: SourceFile) -> Lines:
        """The lines of any file, to translate places of it."""
        return Lines.of(file.text, self.encoding)

    def programs(self) -> Iterator[Document]:
        """Every open text, then every other `.pzl` file of the workspace, in a fixed order."""
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

    def _path(self, uri: str) -> Path:
        """The path of a text. One that has no file yet is taken to lie in the workspace."""
        path = uris.to_fs_path(uri) if uri.startswith("file:") else None
        if path:
            return Path(path)
        top = self.folders[0] if self.folders else Path.cwd()
        return top / f"{Path(uri.partition(':')[2]).name or 'untitled'}.pzl"
