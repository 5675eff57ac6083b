"""The layout of a text: folding ranges, and formatting as `pzl fmt` does it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator

from lsprotocol import types

from puzzledsl.server.document import Document
from puzzledsl.syntax.format import format_source
from puzzledsl.syntax.tokens import Token

_OPENS = {"LBRACE": "RBRACE", "LPAR": "RPAR", "LSQB": "RSQB"}


def folding(document: Document) -> list[types.FoldingRange]:
    """Return the ranges of whole lines that can be folded, in order: brackets, runs of comments and of `use`."""
    found = [*_brackets(document.tokens), *_runs(document.tokens)]
    return sorted(found, key=lambda r: (r.start_line, -r.end_line))


def _brackets(tokens: list[Token]) -> Iterator[types.FoldingRange]:
    """Yield the ranges from a bracket's line to the line above its partner's."""
    opened: list[Token] = []
    for token in tokens:
        if token.type in _OPENS:
            opened.append(token)
        elif token.type in _OPENS.values():
            while opened and _OPENS[opened[-1].type] != token.type:
                opened.pop()
            if opened:
                first, last = opened.pop().line - 1, token.line - 2
                if last > first:
                    yield types.FoldingRange(first, last, kind=types.FoldingRangeKind.Region)


def _runs(tokens: list[Token]) -> Iterator[types.FoldingRange]:
    """Yield the runs of neighbouring lines that are all comments or all `use`."""
    firsts: dict[int, str] = {}
    for token in tokens:
        if token.type != "_NL":
            firsts.setdefault(token.line, token.type)
    kinds = types.FoldingRangeKind
    for words, kind in ((("COMMENT", "DOC"), kinds.Comment), (("USE",), kinds.Imports)):
        for line in [at for at, first in firsts.items() if first in words]:
            end = line
            while firsts.get(end + 1) in words:
                end += 1
            if end > line and firsts.get(line - 1) not in words:
                yield types.FoldingRange(line - 1, end - 1, kind=kind)


def formatting(document: Document) -> list[types.TextEdit]:
    """Return edits of whole lines, so that cursors and folds elsewhere stay; none for a text with syntax errors."""
    new = document.text if document.parsed[1] else format_source(document.text)
    return [] if new == document.text else line_edits(document, new)


def line_edits(document: Document, new: str) -> list[types.TextEdit]:
    """Return the edits that turn a text into another, each for the smallest run of lines."""
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
