"""Semantic tokens: colours that need name resolution, such as a `let` versus a parameter or a metric versus a setting."""

from __future__ import annotations

from lsprotocol import types

from puzzledsl.checker.expressions.values import Symbol
from puzzledsl.checker.names.scopes import LanguageWord
from puzzledsl.server.document import Document
from puzzledsl.server.positions import units
from puzzledsl.syntax.highlight import TokenClass, classified

TYPES = "comment keyword operator string number class variable parameter property function enumMember type namespace".split()
MODIFIERS = ("declaration", "documentation", "defaultLibrary")
_BY_CLASS: dict[TokenClass, str] = {
    "comment": "comment",
    "doc": "comment",
    "string": "string",
    "number": "number",
    "operator": "operator",
    "keyword": "keyword",
    "operator_word": "keyword",
    "kind": "keyword",
}
_BY_CATEGORY = {
    "kind": "keyword",
    "type": "type",
    "setting": "property",
    "metric": "property",
    "fact": "property",
    "call": "function",
    "function": "function",
    "space": "variable",
    "word": "enumMember",
}
_BY_KIND = {
    "let": "variable",
    "variable": "variable",
    "param": "parameter",
    "parameter": "parameter",
    "fn": "function",
    "file": "namespace",
}


def semantic_tokens(document: Document) -> types.SemanticTokens:
    """Return every token that has a colour, as the protocol packs them."""
    names = {(o.span.line, o.span.column): o for o in document.names}
    data: list[int] = []
    last_line = last_start = 0
    for token, its_class in classified(document.text) if document.tokens else []:
        occurrence, modifiers = names.get((token.line, token.column)), tuple[str, ...]()
        match occurrence.symbol if occurrence else None:
            case Symbol(kind=of):
                kind = _BY_KIND.get(of, "class")
                modifiers = ("declaration",) if occurrence and occurrence.role == "declares" else ()
            case LanguageWord(category=category):
                kind = _BY_CATEGORY[category]
                modifiers = ("defaultLibrary",) if category in ("call", "function") else ()
            case _ if its_class in _BY_CLASS:
                kind, modifiers = _BY_CLASS[its_class], ("documentation",) if its_class == "doc" else ()
            case _:
                continue
        start = document.lines.position(token.line, token.column)
        step = start.character - (last_start if start.line == last_line else 0)
        length = units(str(token), document.lines.encoding)
        bits = sum(1 << MODIFIERS.index(m) for m in modifiers)
        data += [start.line - last_line, step, length, TYPES.index(kind), bits]
        last_line, last_start = start.line, start.character
    return types.SemanticTokens(data)
