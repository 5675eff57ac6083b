"""Lines as the formatter lays them out, and the alignment of neighbours of one kind: heads, bounds, reasons and comments.

Alignment depends only on the tokens and the line breaks, never on the existing blanks. So formatting is idempotent
and independent of the original spacing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import pairwise

from puzzledsl.syntax.tokens import Token

COMMENT_COLUMN = 49
"""Column (from 0) of a comment behind code, unless the code or a neighbour's code is longer."""

COMMENT_STEP = 8

MAX_PADDING = 24
"""The most blanks that alignment puts before a part; lines that need more are left unaligned."""

_BRACKETS = {"LPAR": 1, "LSQB": 1, "RPAR": -1, "RSQB": -1}


@dataclass(slots=True)
class Line:
    """One line of the source. `gaps[i]` are the blanks before `tokens[i]`."""

    tokens: list[Token]
    comment: Token | None = None
    gaps: list[int] = field(default_factory=list)
    indent: int = 0
    continues: bool = False
    comment_gap: int = 2

    @property
    def code(self) -> str:
        """The line without its comment."""
        text = "".join(" " * gap + token for gap, token in zip(self.gaps, self.tokens, strict=True))
        return " " * self.indent + text if self.tokens else ""

    @property
    def is_blank(self) -> bool:
        """Return True for a line without tokens and comment."""
        return not self.tokens and self.comment is None

    def __str__(self) -> str:
        if self.comment is None:
            return self.code
        gap = " " * (self.comment_gap if self.tokens else self.indent)
        return self.code + gap + self.comment.rstrip()


def align_code(lines: list[Line]) -> None:
    """Align the heads of neighbouring declarations, and the comparisons and reasons of neighbouring requirements."""
    for group in _groups(
        lines, lambda line: _is_head(line) and _find(line, "OF", "ON") is not None, _related
    ):
        _align(group, "OF", "ON")
    for group in _groups(lines, lambda line: _is_head(line) and _find(line, "EQUAL") is not None, _alike):
        _align(group, "EQUAL")
    for group in _groups(lines, _is_plain_requirement):
        _align(group, "CMP")
    for group in _groups(lines, _has_reason):
        _align(group, "BECAUSE", least=2)


def align_comments(lines: list[Line]) -> None:
    """Align comments behind code at COMMENT_COLUMN, or further right: two blanks behind the longest line of a group."""
    for group in _groups(lines, lambda line: bool(line.tokens) and line.comment is not None):
        column = max(len(line.code) + 2 for line in group)
        if len(group) == 1:  # the next of every eighth column, where others may stand too
            column += (COMMENT_COLUMN - column) % COMMENT_STEP
        column = max(COMMENT_COLUMN, column)
        for line in group:
            line.comment_gap = column - len(line.code)


def _groups(
    lines: list[Line],
    belongs: Callable[[Line], bool],
    together: Callable[[Line, Line], bool] = lambda one, two: True,
) -> Iterable[list[Line]]:
    """Return the runs of neighbouring lines that satisfy `belongs`, split where `together` fails for two neighbours."""
    run: list[Line] = []
    for line in lines:
        fits = belongs(line)
        if run and not (fits and together(run[-1], line)):
            yield run
            run = []
        if fits:
            run.append(line)
    if run:
        yield run


def _align(group: list[Line], *kinds: str, least: int = 1) -> None:
    places = [(line, at) for line in group if (at := _find(line, *kinds)) is not None]
    if len(places) < 2:
        return
    ends = [_width(line, at) for line, at in places]
    if max(ends) - min(ends) > MAX_PADDING:
        return
    for (line, at), end in zip(places, ends, strict=True):
        line.gaps[at] = max(ends) - end + least


def _width(line: Line, at: int) -> int:
    """Return the width of a line before the gap of token `at`."""
    return line.indent + sum(line.gaps[:at]) + sum(map(len, line.tokens[:at]))


def _find(line: Line, *kinds: str) -> int | None:
    """Return the index of the first token of these kinds outside brackets and braces; None if there is none."""
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
    """Return True for a line that begins `KIND NAME …`."""
    return _begins(line, "NAME") and len(line.tokens) > 1 and line.tokens[1].type == "NAME"


def _alike(one: Line, two: Line) -> bool:
    """Return True for two declarations of one kind."""
    return str(one.tokens[0]) == str(two.tokens[0])


def _related(one: Line, two: Line) -> bool:
    """Return True for two declarations of one kind or of one target: `search a of s`, `frontier b of s`."""
    return _alike(one, two) or _target(one) == _target(two)


def _target(line: Line) -> str | None:
    return next((str(b) for a, b in pairwise(line.tokens) if a.type in ("OF", "ON")), None)


def _is_plain_requirement(line: Line) -> bool:
    """Return True for a requirement whose left side is a bare path. Sums and counts are too long to share a column."""
    at = _find(line, "CMP")
    return _begins(line, "REQUIRE", "PREFER") and at is not None and _is_path(line.tokens[1:at])


def _has_reason(line: Line) -> bool:
    return _begins(line, "REQUIRE", "PREFER") and _find(line, "BECAUSE") is not None


def _is_path(tokens: list[Token]) -> bool:
    return all(t.type in ("NAME", "DOT") for t in tokens)
