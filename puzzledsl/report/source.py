"""The program's text with a little colour. Every piece of it is escaped."""

from __future__ import annotations

import re

from markupsafe import Markup, escape

KINDS = (
    "parent|data|hardware|scenario|space|bld|score|search|frontier|uptrain|eval|export"
    "|use|param|let|fn|assert"
)
WORDS = (
    "require|minimize|maximize|prefer|solutions|because|for|in|where|implies|not|and|or|is|of|on|mod|apart"
)
_TOKEN = re.compile(
    r"""(?P<comment>\#.*)|(?P<string>"(?:\\.|[^"\\])*"?)"""
    rf"""|(?P<kind>^(?:{KINDS})\b)|(?P<word>\b(?:{WORDS})\b)"""
    r"""|(?P<number>\b\d[\w.]*%?)"""
)


def source_lines(text: str) -> list[Markup]:
    """One piece of HTML a line, without its line end."""
    return [_line(line) for line in text.splitlines()]


def _line(line: str) -> Markup:
    parts, at = [], 0
    for match in _TOKEN.finditer(line):
        parts.append(escape(line[at : match.start()]))
        parts.append(Markup('<i class="{}">{}</i>').format(match.lastgroup, match.group()))
        at = match.end()
    parts.append(escape(line[at:]))
    return Markup("").join(parts)
