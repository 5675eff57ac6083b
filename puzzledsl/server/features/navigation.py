"""Go to definition, references, highlights and links."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from lsprotocol import types

from puzzledsl.base.diagnostics import Span
from puzzledsl.base.resources import resource
from puzzledsl.server.document import Document
from puzzledsl.server.meanings import Declared, Occurrence
from puzzledsl.server.positions import Lines, covers
from puzzledsl.syntax import tree


def definition(document: Document, line: int, column: int) -> types.Location | None:
    """Return the place that declares the name at a position; the file itself for the path of a `use`."""
    used = used_path(document, line, column)
    if used is not None:
        start = types.Position(0, 0)
        return types.Location(document.project.uri_of(used), types.Range(start, start))
    found = document.name_at(line, column)
    if found is None or not isinstance(found.meaning, Declared):
        return None
    return location(document, found.meaning)


def location(document: Document, declared: Declared) -> types.Location:
    """Return the place of a declaration, in whichever file it is."""
    if declared.key == document.key:
        return types.Location(document.uri, document.lines.range(declared.span))
    symbol = declared.symbol
    assert symbol is not None, "only the names of files are seen in others"
    lines = Lines.of(symbol.file.text, document.project.encoding)
    return types.Location(document.project.uri_of(symbol.file.path), lines.range(declared.span))


def references(
    document: Document, line: int, column: int, *, with_declaration: bool = True
) -> list[types.Location]:
    """Return every use of the name at a position, in all programs of the workspace."""
    found = document.name_at(line, column)
    if found is None or not isinstance(found.meaning, Declared):
        return []
    return [
        types.Location(other.uri, other.lines.range(o.span))
        for other, o in uses(document, found.meaning)
        if with_declaration or not o.declares
    ]


def highlights(document: Document, line: int, column: int) -> list[types.DocumentHighlight]:
    """Return the uses of the name at a position within the text itself."""
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
    """Yield every use of a name, including its declaration, file by file."""
    for other in programs_with(document, declared):
        for occurrence in other.names:
            if occurrence.meaning == declared:
                yield other, occurrence


def programs_with(document: Document, declared: Declared) -> Iterator[Document]:
    """Yield the texts in which a name can be used: this one, its declaring file and the workspace's texts that use that file.

    A local name is used only in its own text. A `fn`'s parameter can also be named by an argument of a call in
    another file.
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
    """Return the file whose path in a `use` is at a position; None if there is none."""
    for item in document.parsed[0].items:
        if isinstance(item, tree.Use) and covers(item.path.span, line, column):
            return path_of_use(document, item)
    return None


def path_of_use(document: Document, use: tree.Use) -> Path | None:
    """Return the file that a `use` refers to; None if it does not exist."""
    name = use.path.value
    try:
        if name.startswith("std/"):
            return resource("spaces", name)
        path = document.path.parent / name
        return path if path.is_file() or document.project.document(path) is not None else None
    except (OSError, ValueError):
        return None


def links(document: Document) -> list[types.DocumentLink]:
    """Return links to the files named by `use`."""
    found: list[types.DocumentLink] = []
    for item in document.parsed[0].items:
        if isinstance(item, tree.Use) and (path := path_of_use(document, item)) is not None:
            span = item.path.span
            inside = Span(span.file, span.line, span.column + 1, span.end_line, span.end_column - 1)
            target = document.project.uri_of(path)
            found.append(types.DocumentLink(document.lines.range(inside), target=target))
    return found
