"""The outline of a text: its declarations with the settings and statements of their bodies."""

from __future__ import annotations

from collections.abc import Iterator

from lsprotocol import types

from puzzledsl.base.diagnostics import Span
from puzzledsl.server.document import Document
from puzzledsl.syntax import tree

_Kind = types.SymbolKind
_KINDS: dict[str, types.SymbolKind] = {
    "parent": _Kind.Class,
    "data": _Kind.File,
    "hardware": _Kind.Object,
    "scenario": _Kind.Event,
    "space": _Kind.Struct,
    "bld": _Kind.Package,
    "score": _Kind.Field,
    "search": _Kind.Interface,
    "frontier": _Kind.Array,
    "uptrain": _Kind.Package,
    "eval": _Kind.Event,
    "export": _Kind.File,
}
_LONGEST = 60


def outline(document: Document) -> list[types.DocumentSymbol]:
    """Return the declarations of a text in its order, each with the statements of its body."""
    return _symbols(document, document.parsed[0].items)


def _symbols(
    document: Document, nodes: tuple[tree.Item, ...] | tuple[tree.Stmt, ...]
) -> list[types.DocumentSymbol]:
    return [symbol for node in nodes if (symbol := _symbol(document, node)) is not None]


def _symbol(document: Document, node: tree.Item | tree.Stmt) -> types.DocumentSymbol | None:
    body: tuple[tree.Stmt, ...] = ()
    match node:
        case tree.Decl(name=name):
            shown = name.text, _KINDS.get(node.kind.text, _Kind.Object), name.span, node.kind.text
            body = node.body or ()
        case tree.Fn(name=name):
            shown = name.text, _Kind.Function, name.span, "fn"
        case tree.Param(name=name):
            shown = name.text, _Kind.Variable, name.span, "param"
        case tree.Let(name=name):
            shown = name.text, _Kind.Constant, name.span, "let"
        case tree.Use(alias=tree.Name() as name):
            shown = name.text, _Kind.Module, name.span, "use"
        case tree.Assign(target=target):
            shown = document.file.source(target.span), _Kind.Property, target.span, ""
        case tree.Section(name=name, body=body):
            shown = name.text, _Kind.Namespace, name.span, ""
        case tree.ForAll(variable=name, body=body):
            shown = f"for {name.text}", _Kind.Array, name.span, ""
        case tree.Require(condition=value):
            shown = _text(document, "require", value.span), _Kind.Boolean, value.span, ""
        case tree.Prefer(condition=value):
            shown = _text(document, "prefer", value.span), _Kind.Boolean, value.span, ""
        case tree.Objective(expression=value):
            shown = _text(document, node.sense, value.span), _Kind.Boolean, value.span, ""
        case _:
            return None
    title, kind, span, detail = shown
    whole, at = document.lines.range(node.span), document.lines.range(span)
    children = _symbols(document, body) or None
    return types.DocumentSymbol(title, kind, whole, at, detail or None, children=children)


def _text(document: Document, keyword: str, value: Span) -> str:
    text = " ".join(document.file.source(value).split())
    return f"{keyword} {text if len(text) <= _LONGEST else text[: _LONGEST - 1] + '…'}"


def workspace_symbols(documents: Iterator[Document], query: str) -> list[types.WorkspaceSymbol]:
    """Return the declarations of every program whose name has the letters of `query` in this order."""
    found: list[types.WorkspaceSymbol] = []
    for document in documents:
        for symbol in outline(document):
            if _has_letters(symbol.name.lower(), query.lower()):
                location = types.Location(document.uri, symbol.selection_range)
                found.append(types.WorkspaceSymbol(location, symbol.name, symbol.kind))
    return found


def _has_letters(name: str, query: str) -> bool:
    rest = iter(name)
    return all(letter in rest for letter in query)
