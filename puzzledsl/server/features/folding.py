"""Folding ranges: bodies, brackets over several lines, runs of comments and of `use`."""

from __future__ import annotations

from collections.abc import Iterator

from lsprotocol import types

from puzzledsl.server.document import Document
from puzzledsl.syntax.tokens import Token

_OPENS = {"LBRACE": "RBRACE", "LPAR": "RPAR", "LSQB": "RSQB"}


def folding(document: Document) -> list[types.FoldingRange]:
    """Return the ranges of whole lines that can be folded, in order."""
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
    first_of_line: dict[int, str] = {}
    for token in tokens:
        if token.type != "_NL":
            first_of_line.setdefault(token.line, token.type)
    comments = {n for n, kind in first_of_line.items() if kind in ("COMMENT", "DOC")}
    uses = {n for n, kind in first_of_line.items() if kind == "USE"}
    for lines, kind in ((comments, types.FoldingRangeKind.Comment), (uses, types.FoldingRangeKind.Imports)):
        for line in sorted(lines):
            if line - 1 not in lines:
                end = line
                while end + 1 in lines:
                    end += 1
                if end > line:
                    yield types.FoldingRange(line - 1, end - 1, kind=kind)
