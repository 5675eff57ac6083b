"""The look of a text: formatting as `pzl fmt` does it, and the colours of its words."""

from __future__ import annotations

import difflib
import re

from lsprotocol import types

from puzzledsl.server.document import Document, units
from puzzledsl.syntax.format import format_source
from puzzledsl.syntax.highlight import CLASSES, classified
from puzzledsl.syntax.parse import MAX_BYTES


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


TYPES = [*dict.fromkeys(name for name, _ in CLASSES.values() if name)]


def semantic_tokens(document: Document) -> types.SemanticTokens:
    """Return every token that has a colour, as the protocol packs them."""
    data: list[int] = []
    last_line = last_start = 0
    for token, its_class in classified(document.text) if len(document.text) <= MAX_BYTES else []:
        if not (kind := CLASSES[its_class][0]):
            continue
        start = document.lines.position(token.line, token.column)
        step = start.character - (last_start if start.line == last_line else 0)
        length = units(str(token), document.lines.encoding)
        data += [start.line - last_line, step, length, TYPES.index(kind), 0]
        last_line, last_start = start.line, start.character
    return types.SemanticTokens(data)
