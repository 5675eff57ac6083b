"""Where a name is given, and where it is used."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from lsprotocol import types

from puzzledsl.diagnostics import Span
from puzzledsl.lang import tree
from puzzledsl.resources import resource
from puzzledsl.server.document import Document
from puzzledsl.server.meanings import Declared, Occurrence
from puzzledsl.server.positions import Lines, covers


def definition(document: Document, line: int, column: int) -> types.Location | None:
    """Where the name at a place is given; the file itself for the path of a `use`."""
    used = used_path(document, line, column)
    if used is not None:
        start = types.Position(0, 0)
        return types.Location(document.project.uri_of(used), types.Range(start, start))
    found = document.name_at(line, column)
    if found is None or not isinstance(found.meaning, Declared):
        return None
    return location(document, found.meaning)


def location(document: Document, declared: Declared) -> types.Location:
    """The place a name is given at, in whichever file."""
    if declared.key == document.key:
        return types.Location(document.uri, document.lines.range(declared.span))
    symbol = declared.symbol
    assert symbol is not None, "only the names of files are seen in others"
    lines = Lines.of(symbol.file.text, document.project.encoding)
    return types.Location(document.project.uri_of(symbol.file.path), lines.range(declared.span))


def references(
    document: Document, line: int, column: int, *, with_declaration: bool = True
) -> list[types.Location]:
    """Every use of the name at a place, in all programs of the workspace."""
    found = document.name_at(line, column)
    if found is None or not isinstance(found.meaning, Declared):
        return []
    return [
        types.Location(other.uri, other.lines.range(o.span))
        for other, o in uses(document, found.meaning)
        if with_declaration or not o.declares
    ]


def highlights(document: Document, line: int, column: int) -> list[types.DocumentHighlight]:
    """The uses of the name at a place within the text itself."""
    found = document.name_at(line, column)
    if found is None or not isinstance(found.meaning, Declared):
        return []
    return [
        types.DocumentHighlight(
            document.lines.range(o.span),
            types.DocumentHighlightKind.Write if o.declares else types.DocumentHighlightKind.Read,
        )
        for o in document.names
        if o.meaning == found.meaning
    ]


def uses(document: Document, declared: Declared) -> Iterator[tuple[Document, Occurrence]]:
    """Every use of a name, its declaration included, file by file."""
    for other in programs_with(document, declared):
        for occurrence in other.names:
            if occurrence.meaning == declared:
                yield other, occurrence


def programs_with(document: Document, declared: Declared) -> Iterator[Document]:
    """The texts in which a name could be used: this one, the one that gives it, and those of the workspace that use that.

    A local name is used in its own text alone; but an argument of a call may name a parameter anywhere.
    """
    if declared.symbol is None and declared.kind != "parameter":
        yield document
        return
    seen: set[str] = set()
    own = [document]
    if declared.key != document.key and declared.symbol is not None:
        own += [d for d in [document.project.document(declared.symbol.file.path)] if d is not None]
    for other in (*own, *document.project.programs()):
        if other.key not in seen and declared.name in other.text:
            seen.add(other.key)
            if other.key == declared.key or other.uses(declared.key):
                yield other


def used_path(document: Document, line: int, column: int) -> Path | None:
    """The file whose path in a `use` stands at a place."""
    for item in document.parsed[0].items:
        if isinstance(item, tree.Use) and covers(item.path.span, line, column):
            return path_of_use(document, item)
    return None


def path_of_use(document: Document, use: tree.Use) -> Path | None:
    """The file a `use` means, where there is one."""
    name = use.path.value
    try:
        if name.startswith("std/"):
            return resource("spaces", name)
        path = document.path.parent / name
        return path if path.is_file() or document.project.document(path) is not None else None
    except (OSError, ValueError):
        return None


def links(document: Document) -> list[types.DocumentLink]:
    """The paths of `use`, to follow with a click."""
    found: list[types.DocumentLink] = []
    for item in document.parsed[0].items:
        if isinstance(item, tree.Use) and (path := path_of_use(document, item)) is not None:
            span = item.path.span
            inside = Span(span.file, span.line, span.column + 1, span.end_line, span.end_column - 1)
            target = document.project.uri_of(path)
            found.append(types.DocumentLink(document.lines.range(inside), target=target))
    return found
