"""Completion inside `use`: files, and the names that a file declares."""

from __future__ import annotations

from pathlib import Path

from lsprotocol import types

from puzzledsl.base.diagnostics import Span
from puzzledsl.base.resources import listing
from puzzledsl.checker.expressions.values import Symbol
from puzzledsl.server.cursor import Cursor
from puzzledsl.server.document import Document
from puzzledsl.server.features.completion_items import Items, keywords, of_meaning
from puzzledsl.server.features.navigation import path_of_use
from puzzledsl.server.scopes import declared
from puzzledsl.syntax import tree


def names_of_used(document: Document, cursor: Cursor) -> Items:
    """In `use "…" (`: return the names that the file declares and the list does not contain yet."""
    statement = cursor.statement
    if len(statement) == 2 and not cursor.calls:
        return keywords(("as",))
    if not cursor.calls or statement[1].type != "STRING":
        return []
    use = tree.Use(
        span=_PLACE, path=tree.String(span=_PLACE, value=str(statement[1])[1:-1]), names=(), alias=None
    )
    path = path_of_use(document, use)
    other = document.project.document(path) if path is not None else None
    named = {str(t) for t in cursor.calls[-1].words}
    if other is None:
        return []
    own = [s for s in other.file.names.values() if isinstance(s, Symbol) and s.file is other.file]
    return [of_meaning(declared(s)) for s in own if s.name not in named]


_PLACE = Span("", 1, 1, 1, 1)


def paths(document: Document, cursor: Cursor, line: int, column: int) -> Items:
    """In `use "`: return the shipped files, then those in the folder and below it."""
    if [t.type for t in cursor.statement] != ["USE"] or cursor.touching is None:
        return []
    typed = str(cursor.touching)[1:]
    if cursor.touching.type == "STRING":
        return []  # behind the closing quote
    start = Span("", line, column - len(typed), line, column)
    known = [n for n in listing("spaces") if n.startswith("std/")]
    found: Items = []
    for name in [*known, *_beside(document)]:
        edit = types.TextEdit(document.lines.range(start), name)
        found.append(
            types.CompletionItem(name, kind=types.CompletionItemKind.File, filter_text=name, text_edit=edit)
        )
    return found


def _beside(document: Document) -> list[str]:
    top = document.path.parent
    try:
        paths: list[Path] = [*top.glob("*.pzl"), *top.glob("*/*.pzl")]
    except OSError:
        return []
    names = [p.relative_to(top).as_posix() for p in paths if p.name != document.path.name]
    return sorted(n for n in names if not n.startswith("."))[:200]
