"""Formatting by `pzl fmt`, as editor edits."""

from __future__ import annotations

import difflib

from lsprotocol import types

from puzzledsl.server.document import Document
from puzzledsl.syntax.format import format_source


def formatting(document: Document) -> list[types.TextEdit]:
    """Return edits of whole lines, so that cursors and folds elsewhere stay; none for a text with syntax errors."""
    if document.parsed[1]:
        return []
    formatted = format_source(document.text)
    if formatted == document.text:
        return []
    return line_edits(document, formatted)


def line_edits(document: Document, new: str) -> list[types.TextEdit]:
    """Return the edits that turn a text into another, each for the smallest run of lines."""
    old_lines, new_lines = _with_ends(document.text), _with_ends(new)
    matcher = difflib.SequenceMatcher(None, old_lines, new_lines, autojunk=False)
    edits: list[types.TextEdit] = []
    for tag, first, last, new_first, new_last in matcher.get_opcodes():
        if tag != "equal":
            place = types.Range(_start(document, first), _start(document, last))
            edits.append(types.TextEdit(place, "".join(new_lines[new_first:new_last])))
    return edits


def _with_ends(text: str) -> list[str]:
    """Return the lines of a text with their line ends. The last one has none and is omitted if it is empty."""
    *lines, last = text.split("\n")
    return [line + "\n" for line in lines] + ([last] if last else [])


def _start(document: Document, index: int) -> types.Position:
    """Return the start of the line `index` (from 0); the end of the text if there is no such line."""
    lines = document.lines.lines
    if index < len(lines):
        return types.Position(index, 0)
    return document.lines.position(len(lines), len(lines[-1]) + 1)
