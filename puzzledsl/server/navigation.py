"""Go to definition, references, the outline of a text, and renaming.

A name is renamed in all files that use it, or the request is refused: where the new name stands for something there already.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from lsprotocol import types

from puzzledsl.base.resources import folder
from puzzledsl.checker.expressions.values import Symbol
from puzzledsl.checker.names.names import key_of
from puzzledsl.checker.names.occurrences import Occurrence
from puzzledsl.language.words import KEYWORDS
from puzzledsl.server.document import Document, Lines, covers
from puzzledsl.syntax import tree

_Icon = types.SymbolKind
_LONGEST = 60


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


def references(document: Document, line: int, column: int, declared: bool = True) -> list[types.Location]:
    """Return every use of the name at a position, in all programs of the workspace."""
    symbol = document.symbol_at(line, column)
    return [
        types.Location(other.uri, other.lines.range(o.span))
        for other, found in (uses(document, symbol) if symbol is not None else ())
        for o in found
        if declared or o.role != "declares"
    ]


def uses(document: Document, symbol: Symbol) -> Iterator[tuple[Document, list[Occurrence]]]:
    """Yield the texts in which a name can be used, each with its uses there, the declaration included.

    A local name is used in its own text alone; only a `fn`'s parameter can be named by an argument of a call in another file.
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
    found = (use for use in document.used if covers(use.path.span, line, column))
    return next((document.path_of(use) for use in found), None)


def outline(document: Document) -> list[types.DocumentSymbol]:
    """Return the declarations of a text in its order, each with the statements of its body."""
    return _symbols(document, document.parsed[0].items)


def _symbols(document: Document, nodes: Sequence[tree.Item | tree.Stmt]) -> list[types.DocumentSymbol]:
    return [symbol for node in nodes if (symbol := _symbol(document, node)) is not None]


def _symbol(document: Document, node: tree.Item | tree.Stmt) -> types.DocumentSymbol | None:
    detail, title = type(node).__name__.lower(), ""
    shown: tree.Expr
    body: tuple[tree.Stmt, ...] = ()
    match node:
        case tree.Decl(name=name, kind=tree.Name(text=detail)):
            icon, shown, body = _Icon.Object, name, node.body or ()
        case tree.Fn(name=shown):
            icon = _Icon.Function
        case tree.Param(name=shown):
            icon = _Icon.Variable
        case tree.Let(name=shown):
            icon = _Icon.Constant
        case tree.Use(alias=tree.Name() as shown):
            icon = _Icon.Module
        case tree.Assign(target=target):
            icon, shown, title, detail = _Icon.Property, target, document.file.source(target.span), ""
        case tree.Section(name=shown, body=body):
            icon, detail = _Icon.Namespace, ""
        case tree.ForAll(variable=shown, body=body):
            icon, title, detail = _Icon.Array, f"for {shown.text}", ""
        case tree.Require(condition=shown) | tree.Prefer(condition=shown) | tree.Objective(expression=shown):
            keyword = node.sense if isinstance(node, tree.Objective) else detail
            text = " ".join(document.file.source(shown.span).split())
            title = f"{keyword} {text if len(text) <= _LONGEST else text[: _LONGEST - 1] + '…'}"
            icon, detail = _Icon.Boolean, ""
        case _:
            return None
    whole, at = document.lines.range(node.span), document.lines.range(shown.span)
    title = title or getattr(shown, "text", "")
    children = _symbols(document, body) or None
    return types.DocumentSymbol(title, icon, whole, at, detail or None, children=children)


_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
Changes = list[tuple[Document, list[Occurrence]]]


class RenameRefused(Exception):
    """The reason why a name cannot be renamed, as a message for the user."""


def prepare(document: Document, line: int, column: int) -> types.PrepareRenamePlaceholder:
    """Return the name at a position if it can be renamed. Raises RenameRefused."""
    occurrence, _ = _renamable(document, line, column)
    return types.PrepareRenamePlaceholder(document.lines.range(occurrence.span), occurrence.name)


def rename(document: Document, line: int, column: int, new: str) -> types.WorkspaceEdit:
    """Return the edits that change the name at a position to `new` everywhere. Raises RenameRefused."""
    occurrence, symbol = _renamable(document, line, column)
    if not _NAME.fullmatch(new):
        raise RenameRefused(f"`{new}` is no name: letters, digits and `_`, not a digit first")
    if new in KEYWORDS:
        raise RenameRefused(f"`{new}` is a word of the language")
    changes: Changes = []
    for other, found in uses(document, symbol):
        if other.parsed[0].broken:
            mend = "mend its syntax first, or uses may be missed"
            raise RenameRefused(f"`{other.path.name}` cannot be read to its end: {mend}")
        if found:
            changes.append((other, found))
    for other, _ in changes if new != occurrence.name else ():
        if new in other.file.names or any(o.name == new for o in other.names):
            raise RenameRefused(f"`{new}` stands for something else in {other.path.name}")
    edits = []
    for other, found in changes:
        text = types.OptionalVersionedTextDocumentIdentifier(other.uri, other.version)
        new_names = [types.TextEdit(other.lines.range(o.span), new) for o in found]
        edits.append(types.TextDocumentEdit(text, list(new_names)))
    return types.WorkspaceEdit(document_changes=list(edits))


def _renamable(document: Document, line: int, column: int) -> tuple[Occurrence, Symbol]:
    occurrence = document.name_at(line, column)
    if occurrence is None:
        raise RenameRefused("there is no name here")
    symbol = occurrence.symbol
    if symbol is None:
        raise RenameRefused(f"nothing is called `{occurrence.name}`")
    if not isinstance(symbol, Symbol):
        raise RenameRefused(f"`{occurrence.name}` is a word of the language")
    path = symbol.file.path
    if Path(symbol.file.key).is_relative_to(key_of(folder("spaces"))):
        raise RenameRefused(f"`{symbol.name}` is declared in `{path.name}`, which comes with pzl")
    return occurrence, symbol
