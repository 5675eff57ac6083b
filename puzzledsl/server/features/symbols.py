"""The outline of a text: its declarations with the settings and statements of their bodies."""

from __future__ import annotations

from collections.abc import Iterator

from lsprotocol import types

from puzzledsl.base.diagnostics import Span
from puzzledsl.server.document import Document
from puzzledsl.syntax import tree

_KINDS: dict[str, types.SymbolKind] = {
    "parent": types.SymbolKind.Class,
    "data": types.SymbolKind.File,
    "hardware": types.SymbolKind.Object,
    "scenario": types.SymbolKind.Event,
    "space": types.SymbolKind.Struct,
    "bld": types.SymbolKind.Package,
    "score": types.SymbolKind.Field,
    "search": types.SymbolKind.Interface,
    "frontier": types.SymbolKind.Array,
    "uptrain": types.SymbolKind.Package,
    "eval": types.SymbolKind.Event,
    "export": types.SymbolKind.File,
}
_LONGEST = 60


def outline(document: Document) -> list[types.DocumentSymbol]:
    """The declarations of a text in its order, each with what is in it."""
    found: list[types.DocumentSymbol] = []
    for item in document.parsed[0].items:
        symbol = _item(document, item)
        if symbol is not None:
            found.append(symbol)
    return found


def _item(document: Document, item: tree.Item) -> types.DocumentSymbol | None:
    match item:
        case tree.Decl():
            kind = _KINDS.get(item.kind.text, types.SymbolKind.Object)
            inner = [s for s in (_statement(document, each) for each in item.body or ()) if s is not None]
            return _symbol(document, item.name.text, kind, item.span, item.name.span, item.kind.text, inner)
        case tree.Fn():
            return _symbol(
                document, item.name.text, types.SymbolKind.Function, item.span, item.name.span, "fn"
            )
        case tree.Param():
            name = item.name
            return _symbol(document, name.text, types.SymbolKind.Variable, item.span, name.span, "param")
        case tree.Let():
            return _symbol(
                document, item.name.text, types.SymbolKind.Constant, item.span, item.name.span, "let"
            )
        case tree.Use(alias=tree.Name() as alias):
            return _symbol(document, alias.text, types.SymbolKind.Module, item.span, alias.span, "use")
    return None


def _statement(document: Document, statement: tree.Stmt) -> types.DocumentSymbol | None:
    match statement:
        case tree.Assign(target=target):
            name = document.file.source(target.span)
            return _symbol(document, name, types.SymbolKind.Property, statement.span, target.span)
        case tree.Section(name=name, body=body):
            inner = [s for s in (_statement(document, each) for each in body) if s is not None]
            return _symbol(
                document, name.text, types.SymbolKind.Namespace, statement.span, name.span, "", inner
            )
        case tree.Require(condition=value):
            return _told(document, "require", statement.span, value.span)
        case tree.Prefer(condition=value):
            return _told(document, "prefer", statement.span, value.span)
        case tree.Objective(expression=value):
            return _told(document, statement.sense, statement.span, value.span)
        case tree.Let(name=name):
            return _symbol(document, name.text, types.SymbolKind.Constant, statement.span, name.span, "let")
        case tree.ForAll(variable=name, body=body):
            inner = [s for s in (_statement(document, each) for each in body) if s is not None]
            title = f"for {name.text}"
            return _symbol(document, title, types.SymbolKind.Array, statement.span, name.span, "", inner)
    return None


def _told(document: Document, keyword: str, span: Span, value: Span) -> types.DocumentSymbol:
    text = " ".join(document.file.source(value).split())
    shown = text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
    return _symbol(document, f"{keyword} {shown}", types.SymbolKind.Boolean, span, value)


def _symbol(
    document: Document,
    name: str,
    kind: types.SymbolKind,
    span: Span,
    name_span: Span,
    detail: str = "",
    children: list[types.DocumentSymbol] | None = None,
) -> types.DocumentSymbol:
    lines = document.lines
    return types.DocumentSymbol(
        name, kind, lines.range(span), lines.range(name_span), detail or None, children=children or None
    )


def workspace_symbols(documents: Iterator[Document], query: str) -> list[types.WorkspaceSymbol]:
    """The declarations of every program whose name holds the letters of `query` in order."""
    found: list[types.WorkspaceSymbol] = []
    for document in documents:
        for symbol in outline(document):
            if _holds(symbol.name.lower(), query.lower()):
                location = types.Location(document.uri, symbol.selection_range)
                found.append(types.WorkspaceSymbol(location, symbol.name, symbol.kind))
    return found


def _holds(name: str, query: str) -> bool:
    rest = iter(name)
    return all(letter in rest for letter in query)
