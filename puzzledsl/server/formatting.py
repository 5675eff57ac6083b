"""`pzl fmt` of a text, as the edits that an editor makes."""

from __future__ import annotations

import difflib

from lsprotocol import types

from puzzledsl.lang.format import format_source
from puzzledsl.server.document import Document


def formatting(document: Document) -> list[types.TextEdit]:
    """Edits of whole lines, so that cursors and folds elsewhere stay; none for a text with syntax errors."""
    if document.parsed[1]:
        return []
    formatted = format_source(document.text)
    if formatted == document.text:
        return []
    return line_edits(document, formatted)


def line_edits(document: Document, new: str) -> list[types.TextEdit]:
    """The edits that turn a text into another, each of the least run of lines."""
    old_lines, new_lines = _with_ends(document.text), _with_ends(new)
    matcher = difflib.SequenceMatcher(None, old_lines, new_lines, autojunk=False)
    edits: list[types.TextEdit] = []
    for tag, first, last, new_first, new_last in matcher.get_opcodes():
        if tag != "equal":
            place = types.Range(_start(document, first), _start(document, last))
            edits.append(types.TextEdit(place, "".join(new_lines[new_first:new_last])))
    return edits


def _with_ends(text: str) -> list[str]:
    """The lines of a text, each with its line end; the last has none, and is left out where it is empty."""
    *lines, last = text.split("\n")
    return [line + "\n" for line in lines] + ([last] if last else [])


def _start(document: Document, index: int) -> types.Position:
    """Where a line begins; the end of the text behind the last."""
    lines = document.lines.lines
    if index < len(lines):
        return types.Position(index, 0)
    return document.lines.position(len(lines), len(lines[-1]) + 1)
