"""Go to definition, references, highlights and links."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from lsprotocol import types

from puzzledsl.base.diagnostics import Span
from puzzledsl.base.resources import resource
from puzzledsl.checker.expressions.values import Symbol
from puzzledsl.checker.names.occurrences import Occurrence
from puzzledsl.server.document import Document
from puzzledsl.server.positions import Lines, covers
from puzzledsl.syntax import tree


def definition(document: Document, line: int, column: int) -> types.Location | None:
    """Return the place that declares the name at a position; the file itself for the path of a `use`."""
    used = used_path(document, line, column)
    if used is not None:
        start = types.Position(0, 0)
        return types.Location(document.project.uri_of(used), types.Range(start, start))
    symbol = document.symbol_at(line, column)
    if symbol is None or symbol.file.key == document.key:
        return None if symbol is None else types.Location(document.uri, document.lines.range(symbol.span))
    lines = Lines.of(symbol.file.text, document.project.encoding)
    return types.Location(document.project.uri_of(symbol.file.path), lines.range(symbol.span))


def references(
    document: Document, line: int, column: int, *, with_declaration: bool = True
) -> list[types.Location]:
    """Return every use of the name at a position, in all programs of the workspace."""
    symbol = document.symbol_at(line, column)
    return [
        types.Location(other.uri, other.lines.range(o.span))
        for other, found in (uses(document, symbol) if symbol is not None else ())
        for o in found
        if with_declaration or o.role != "declares"
    ]


def highlights(document: Document, line: int, column: int) -> list[types.DocumentHighlight]:
    """Return the uses of the name at a position within the text itself."""
    symbol, kinds = document.symbol_at(line, column), types.DocumentHighlightKind
    return [
        types.DocumentHighlight(
            document.lines.range(o.span), kinds.Write if o.role == "declares" else kinds.Read
        )
        for o in document.names
        if symbol is not None and o.means(symbol)
    ]


def uses(document: Document, symbol: Symbol) -> Iterator[tuple[Document, list[Occurrence]]]:
    """Yield the texts in which a name can be used, each with its uses there, the declaration included.

    These are the text itself, the declaring file and the workspace's texts that use that file. A local name is used in its own
    text alone; only a `fn`'s parameter can be named by an argument of a call in another file.
    """
    programs = [document]
    is_local = symbol.file.names.get(symbol.name) is not symbol and symbol.kind != "parameter"
    if not is_local:
        declaring = document.project.document(symbol.file.path)
        programs += [*([declaring] if declaring is not None else []), *document.project.programs()]
    seen: set[str] = set()
    for other in programs:
        if other.key in seen or symbol.name not in other.text:
            continue
        seen.add(other.key)
        if other is document or other.key == symbol.file.key or other.uses(symbol.file.key):
            yield other, [o for o in other.names if o.means(symbol)]


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
