"""Text of the program as highlighted, escaped HTML."""

from __future__ import annotations

from markupsafe import Markup, escape

from puzzledsl.syntax.highlight import TokenClass, classified
from puzzledsl.syntax.parse import normalise

_SHOWN: dict[TokenClass, str] = {
    "comment": "comment",
    "doc": "comment",
    "string": "string",
    "kind": "kind",
    "keyword": "word",
    "operator_word": "word",
    "number": "number",
}
"""The style sheet's name for each class that has a colour."""


def source_lines(text: str) -> list[Markup]:
    """Return one piece of HTML per line, without the line end."""
    source = normalise(text)
    lines = source.split("\n")
    coloured: dict[int, list[tuple[int, int, str]]] = {}
    for token, its_class in classified(source):
        if its_class in _SHOWN:
            start = (token.column or 1) - 1
            coloured.setdefault(token.line or 1, []).append((start, start + len(token), _SHOWN[its_class]))
    found = [_line(line, coloured.get(number, [])) for number, line in enumerate(lines, 1)]
    return found if lines[-1] else found[:-1]


def _line(line: str, coloured: list[tuple[int, int, str]]) -> Markup:
    """Return a line with highlighted ranges, from left to right."""
    parts, at = [], 0
    for start, stop, style in coloured:
        parts.append(escape(line[at:start]))
        parts.append(Markup('<i class="{}">{}</i>').format(style, line[start:stop]))
        at = stop
    parts.append(escape(line[at:]))
    return Markup("").join(parts)
