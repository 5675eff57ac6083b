"""Columns, as a careful author keeps them: neighbouring lines of one kind, their parts one below the other.

Alignment is the author's choice and our work: where one line of a group has more than one blank before such a part, the
whole group is aligned; where none has, none is. Comments behind code keep a column they share.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from lark import Token

if TYPE_CHECKING:
    from puzzledsl.lang.format import Line

_BRACKETS = {"LPAR": 1, "LSQB": 1, "RPAR": -1, "RSQB": -1}
_ASSIGNS = ("EQUAL", "EXTEND", "REMOVE", "KEEP")


def align_code(lines: list[Line]) -> None:
    """Align the heads of declarations, the sides of requirements and the values of settings."""
    for group in _groups(lines, lambda line: _is_head(line) and _find(line, "OF", "ON") is not None):
        _align(group, "OF", "ON")
    for group in _groups(lines, lambda line: _is_head(line) and _find(line, "EQUAL") is not None):
        _align(group, "EQUAL")
    for group in _groups(lines, _is_plain_requirement):
        _align(group, "CMP")
    for group in _groups(
        lines, lambda line: _begins(line, "REQUIRE", "PREFER") and _find(line, "BECAUSE") is not None
    ):
        _align(group, "BECAUSE", least=2)
    for group in _groups(lines, lambda line: _is_setting(line)):
        _align(group, *_ASSIGNS)


def align_comments(lines: list[Line]) -> None:
    """Comments behind code: neighbours share a column, theirs if they agree on one, else two blanks behind the longest."""
    for group in _groups(lines, lambda line: bool(line.tokens) and line.comment is not None):
        least = max(len(line.code) for line in group) + 2
        columns = {
            line.comment.column - 1 for line in group if line.comment is not None and line.comment.column
        }
        column = columns.pop() if len(columns) == 1 else least
        for line in group:
            line.comment_gap = max(column, least) - len(line.code)


def _groups(lines: list[Line], belongs: Callable[[Line], bool]) -> Iterable[list[Line]]:
    """The runs of neighbouring lines that belong together."""
    run: list[Line] = []
    for line in lines:
        if belongs(line):
            run.append(line)
        elif run:
            yield run
            run = []
    if run:
        yield run


def _align(group: list[Line], *kinds: str, least: int = 1) -> None:
    places = [(line, at) for line in group if (at := _find(line, *kinds)) is not None]
    if len(places) < 2 or all(line.wide[at] < 2 for line, at in places):
        return
    ends = [_width(line, at) for line, at in places]
    for (line, at), end in zip(places, ends, strict=True):
        line.gaps[at] = max(ends) - end + least


def _width(line: Line, at: int) -> int:
    """How wide the line is before the gap of token `at`."""
    return line.indent + sum(line.gaps[:at]) + sum(map(len, line.tokens[:at]))


def _find(line: Line, *kinds: str) -> int | None:
    """The first token of these kinds outside brackets and braces."""
    depth = 0
    for index, token in enumerate(line.tokens):
        depth += _BRACKETS.get(token.type, 0)
        if token.type == "LBRACE":
            return None
        if depth == 0 and index and token.type in kinds:
            return index
    return None


def _begins(line: Line, *kinds: str) -> bool:
    return bool(line.tokens) and not line.continues and line.tokens[0].type in kinds


def _is_head(line: Line) -> bool:
    """`KIND NAME …`."""
    return _begins(line, "NAME") and len(line.tokens) > 1 and line.tokens[1].type == "NAME"


def _is_setting(line: Line) -> bool:
    return _begins(line, "NAME") and not _is_head(line) and _find(line, *_ASSIGNS) is not None


def _is_plain_requirement(line: Line) -> bool:
    """A bare path against a bound: sums and counts are too long to share a column with."""
    at = _find(line, "CMP")
    return _begins(line, "REQUIRE", "PREFER") and at is not None and _is_path(line.tokens[1:at])


def _is_path(tokens: list[Token]) -> bool:
    return all(t.type in ("NAME", "DOT") for t in tokens)
