"""Break lines of code that are longer than LIMIT, at the outermost place that a person would choose.

A body comes apart into its statements, a choice before each `|`, a requirement before `because`, `implies`, `or` and
`and`, a call behind the last comma that fits. What cannot be broken, such as a long string, stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

from puzzledsl.syntax.formatting.align import Line
from puzzledsl.syntax.tokens import Token

LIMIT = 120
"""Longest line of code, without its comment, that is left whole."""

_OPENS, _CLOSES = {"LPAR", "LSQB", "LBRACE"}, {"RPAR", "RSQB", "RBRACE"}
_BEFORE_ALL: tuple[tuple[str, ...], ...] = (
    ("BECAUSE",),
    ("VBAR",),
    ("ELSE",),
    ("THEN",),
    ("IMPLIES",),
    ("OR",),
    ("AND",),
    ("WHERE",),
)
"""Tokens before which a line is broken at once, the loosest first."""
_BEFORE_LAST: tuple[tuple[str, ...], ...] = (("ADD",), ("CMP",), ("STAR", "SLASH", "MOD"))
"""Tokens of which the last that fits begins the next line."""
_ENDS_OPERAND = {"NAME", "QUANTITY", "STRING", "RPAR", "RSQB"}

Measure = Callable[[list[Line]], None]


def break_long(lines: list[Line], measure: Measure) -> list[Line]:
    """Return the lines with long ones broken. `measure` sets the blanks and the indentation of all lines."""
    while True:
        measure(lines)
        broken = [
            part for line, opened in zip(lines, _opened(lines), strict=True) for part in _parts(line, opened)
        ]
        if len(broken) == len(lines):
            return lines
        lines = broken


def _opened(lines: Sequence[Line]) -> list[list[str]]:
    """Return for each line the kinds of the brackets and braces that are open where it begins, the innermost last."""
    found: list[list[str]] = []
    stack: list[str] = []
    for line in lines:
        found.append(list(stack))
        for token in line.tokens:
            _step(stack, token)
    return found


def _step(stack: list[str], token: Token) -> None:
    if token.type in _OPENS:
        stack.append(token.type)
    elif token.type in _CLOSES and stack:
        stack.pop()


def _parts(line: Line, opened: list[str]) -> list[Line]:
    """Return a line, in parts where it is too long and can be broken. A comma between statements is left out."""
    if len(line.code) <= LIMIT:
        return [line]
    edges = [0, *(_body(line.tokens) or _cuts(line)), len(line.tokens)]
    pieces = [line.tokens[start:stop] for start, stop in pairwise(edges)]
    stack, parts = list(opened), []
    for piece in pieces:
        for token in piece:
            _step(stack, token)
        separates = piece[-1].type == "COMMA" and len(pieces) > 1 and stack and stack[-1] == "LBRACE"
        parts.append(Line(piece[:-1] if separates else piece))
    parts[0].comment = line.comment
    return parts if len(parts) > 1 else [line]


def _depths(tokens: Sequence[Token]) -> list[int]:
    """Return for each token how many brackets and braces of the line are open around it."""
    depths: list[int] = []
    depth = 0
    for token in tokens:
        depth -= token.type in _CLOSES
        depths.append(depth)
        depth += token.type in _OPENS
    return depths


def _body(tokens: Sequence[Token]) -> list[int] | None:
    """Return where the statements of `head { a, b }` begin, and its `}`; None for a line without a whole body."""
    opener = next((i for i, token in enumerate(tokens) if token.type == "LBRACE"), None)
    if opener is None or opener + 1 == len(tokens) or tokens[opener + 1].type == "RBRACE":
        return None
    depths = _depths(tokens)
    level = depths[opener]
    closer = next(
        (i for i in range(opener + 1, len(tokens)) if depths[i] == level and tokens[i].type == "RBRACE"), None
    )
    if closer is None:
        return [opener + 1]
    commas = [
        i + 1 for i in range(opener + 1, closer) if tokens[i].type == "COMMA" and depths[i] == level + 1
    ]
    return sorted({opener + 1, *(cut for cut in commas if cut < closer), closer})


def _cuts(line: Line) -> list[int]:
    """Return the indices of the tokens that begin new lines, all at the least depth that has any; empty for none."""
    depths, tokens = _depths(line.tokens), line.tokens
    for depth in sorted(set(depths)):
        at = [i for i in range(1, len(tokens)) if depths[i] == depth]
        for kinds in _BEFORE_ALL:
            if cuts := [i for i in at if tokens[i].type in kinds]:
                return cuts
        commas = [i + 1 for i in at if tokens[i].type == "COMMA" and i + 1 < len(tokens)]
        groups = [commas]
        for kinds in _BEFORE_LAST:
            groups.append([i for i in at if tokens[i].type in kinds and tokens[i - 1].type in _ENDS_OPERAND])
        for group in groups:
            if group:
                return [_last_fitting(line, group)]
    return []


def _last_fitting(line: Line, cuts: Sequence[int]) -> int:
    """Return the last cut that leaves at most LIMIT columns before it, else the first."""
    ends = {cut: line.indent + sum(line.gaps[:cut]) + sum(map(len, line.tokens[:cut])) for cut in cuts}
    return next((cut for cut in reversed(cuts) if ends[cut] <= LIMIT), cuts[0])
