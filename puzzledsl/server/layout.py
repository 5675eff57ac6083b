"""The look of a text: formatting as `pzl fmt` does it, and colours that need name resolution."""

from __future__ import annotations

import difflib
import re

from lsprotocol import types

from puzzledsl.checker.expressions.values import Symbol
from puzzledsl.checker.names.names import LanguageWord
from puzzledsl.server.document import Document, units
from puzzledsl.syntax.format import format_source
from puzzledsl.syntax.highlight import CLASSES, classified


def formatting(document: Document) -> list[types.TextEdit]:
    """Return edits of whole lines, so that cursors and folds elsewhere stay; none for a text with syntax errors."""
    new = document.text if document.parsed[1] else format_source(document.text)
    old_lines, new_lines = (re.findall(r"[^\n]*\n|[^\n]+", text) for text in (document.text, new))
    count, last = len(document.lines.lines), document.lines.lines[-1]
    behind = document.lines.position(count, len(last) + 1)
    starts = [types.Position(index, 0) for index in range(count)] + [behind]
    matcher = difflib.SequenceMatcher(None, old_lines, new_lines, autojunk=False)
    return [
        types.TextEdit(types.Range(starts[first], starts[stop]), "".join(new_lines[new_first:new_stop]))
        for tag, first, stop, new_first, new_stop in matcher.get_opcodes()
        if tag != "equal"
    ]


TYPES = "comment keyword operator string number class variable parameter property function enumMember type namespace".split()
MODIFIERS = ("declaration", "documentation", "defaultLibrary")
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
            case _ if kind := CLASSES[its_class]:
                modifiers = ("documentation",) if its_class == "doc" else ()
            case _:
                continue
        start = document.lines.position(token.line, token.column)
        step = start.character - (last_start if start.line == last_line else 0)
        length = units(str(token), document.lines.encoding)
        bits = sum(1 << MODIFIERS.index(m) for m in modifiers)
        data += [start.line - last_line, step, length, TYPES.index(kind), bits]
        last_line, last_start = start.line, start.character
    return types.SemanticTokens(data)
