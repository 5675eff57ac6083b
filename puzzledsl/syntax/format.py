"""The formatter: one layout for programs. It changes blanks and line breaks only; every word and comment stays.

There is one exception: a line break that it adds between two statements replaces their comma. It works on the tokens, not on the
syntax tree, so that it can format a file that does not parse yet, and keeps comments. The author's line breaks stay, but of blank
lines in a row only one, and none at the ends of a file or body. Indentation, blanks within a line and columns of comments depend
only on the tokens and the line breaks, not on the blanks that were there. So formatting is idempotent. A line that is too long is
broken at the outermost place that fits: a body between its statements, a choice before each `|`, a requirement before `because`,
`implies`, `or` and `and`, a call behind the last comma that fits. A line without such a place, such as a long string, stays.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby, pairwise

from puzzledsl.language.words import KEYWORDS
from puzzledsl.syntax.newlines import CONTINUES_AFTER, CONTINUES_BEFORE
from puzzledsl.syntax.parse import MAX_BYTES, MAX_TOKENS, normalise
from puzzledsl.syntax.tokens import Token, lex

INDENT = 2
_MISTAKES = {"UNKNOWN", "UNTERMINATED", "FOREIGN"}
_OPENS, _CLOSES = {"LPAR", "LSQB"}, {"RPAR", "RSQB"}
_ALL_OPENS, _ALL_CLOSES = _OPENS | {"LBRACE"}, _CLOSES | {"RBRACE"}
_ASSIGNS = {"EQUAL", "EXTEND", "REMOVE", "KEEP"}
COMMENT_COLUMN = 49
"""Column (from 0) of a comment behind code, unless the code or a neighbour's code is longer."""
COMMENT_STEP = 8
LIMIT = 120
"""Longest line of code, without its comment, that is left whole."""
_ENDS_OPERAND = {"NAME", "QUANTITY", "STRING", "RPAR", "RSQB"}
_BEFORE_ALL = "BECAUSE VBAR ELSE THEN IMPLIES OR AND WHERE".split()
"""Tokens before which a line is broken at once, the loosest first."""
_BEFORE_LAST = (("ADD",), ("CMP",), ("STAR", "SLASH", "MOD"))
"""Tokens of which the last that fits begins the next line."""


def format_source(text: str) -> str:
    """Return the formatted text; unchanged if it is too large, has lexical mistakes, or new blanks would change its tokens."""
    source = normalise(text)
    tokens = lex(source[: MAX_BYTES + 1], MAX_TOKENS + 1)
    if len(source) > MAX_BYTES or len(tokens) > MAX_TOKENS or any(t.type in _MISTAKES for t in tokens):
        return text
    lines = break_long(_lines(tokens))
    # comments behind code stand at COMMENT_COLUMN, or two blanks behind the longest line of a group
    for has_comment, run in groupby(lines, lambda line: bool(line.tokens) and line.comment is not None):
        group = [*run] if has_comment else []
        column = max((len(line.code) + 2 for line in group), default=0)
        if len(group) == 1:  # the next of every eighth column, where others may stand too
            column += (COMMENT_COLUMN - column) % COMMENT_STEP
        for line in group:
            line.comment_gap = max(COMMENT_COLUMN, column) - len(line.code)
    result = "".join(f"{line}".rstrip() + "\n" for line in lines)
    # Blanks never change what the tokens are in a program that parses; in a broken one two may grow together.
    kept = [word for line in lines for word in (*line.tokens, line.comment) if word is not None]
    return result if _words(lex(result)) == _words(kept) else text


def _words(tokens: Iterable[Token]) -> list[str]:
    return [_plain(t).rstrip() for t in tokens if t.type != "_NL"]


def _plain(token: Token) -> Token:
    """Return a token as it is written: `same as`, the only token of two words, with one blank."""
    return token.like(token.type, "same as") if token.type == "SAME_AS" else token


def _lines(tokens: list[Token]) -> list[Line]:
    """Return the tokens as lines. Of blank lines in a row one stays, and none at the start or end of the file or of a body."""
    lines = [Line([])]
    for token in tokens:
        if token.type == "_NL":
            lines.append(Line([]))
        elif token.type in ("COMMENT", "DOC"):
            lines[-1].comment = token
        else:
            lines[-1].tokens.append(_plain(token))
    kept: list[Line] = []
    for line in lines:
        closes = bool(line.tokens) and line.tokens[0].type == "RBRACE"
        if closes and kept and kept[-1].is_blank:
            kept.pop()
        opens = not kept or (bool(kept[-1].tokens) and kept[-1].tokens[-1].type == "LBRACE")
        if not line.is_blank or not (opens or kept[-1].is_blank):
            kept.append(line)
    return kept[:-1] if kept and kept[-1].is_blank else kept


def _space(line: Line, last: Token | None) -> None:
    """Set the gaps of a line: one blank or none between two tokens. `last`: the last token of the lines before."""
    line.gaps = []
    before, unary = None, False
    subscripts: list[bool] = []  # for each open bracket, whether it is `a[`
    for token in line.tokens:
        gap = 0 if before is None else _gap(before, token, unary)
        if before is not None and subscripts and subscripts[-1]:  # `a[i-1]` has no blank beside its sign
            signs = before.type == "ADD" or (token.type == "ADD" and before.type in _ENDS_OPERAND)
            gap = 0 if signs else gap
        line.gaps.append(gap)
        if token.type in _OPENS:
            subscripts.append(token.type == "LSQB" and before is not None and before.type in _ENDS_OPERAND)
        elif token.type in _CLOSES and subscripts:
            subscripts.pop()
        operand = before or last
        unary = token.type == "ADD" and (operand is None or operand.type not in _ENDS_OPERAND)
        before = token


def _gap(before: Token, token: Token, unary: bool) -> int:
    """Return the number of blanks between two neighbours. `unary`: `before` is a sign, as in `-x`."""
    left, right = before.type, token.type
    if unary or left in _OPENS or right in _CLOSES or right in ("COMMA", "COLON", "DOT") or left == "DOT":
        return 0
    if left == "LBRACE" and right == "RBRACE":
        return 0
    if right == "RANGE":
        return int(left == "COMMA" or before in KEYWORDS)
    if left == "RANGE":
        return int(token in KEYWORDS)
    return int(right not in _OPENS or left not in ("NAME", "RPAR", "RSQB"))


def _indent(lines: list[Line]) -> None:
    """Set the indentation of lines: two columns a brace, more for a continued line, a leading `|` under its statement's `=`."""
    opened: list[int] = []  # for each open bracket, the indentation of its line
    braces = bar = 0
    last: Token | None = None
    for line in lines:
        if not line.tokens:
            line.indent = opened[-1] + INDENT if opened else INDENT * braces
            continue
        first = line.tokens[0].type
        continues = last is not None and (bool(opened) or first in CONTINUES_BEFORE)
        if last is not None and last.type in CONTINUES_AFTER and not (last.type == "COMMA" and braces):
            continues = True
        line.indent = INDENT * max(braces - (first == "RBRACE"), 0)
        if opened:
            line.indent = opened[-1]
            line.indent += 0 if first in _CLOSES else 2 * INDENT if first == "VBAR" else INDENT
        elif continues and first == "VBAR":
            line.indent = bar
        elif continues and first != "LBRACE":
            line.indent += 2 * INDENT
        if not continues:
            bar = line.indent + 2 * INDENT
        column, before = line.indent, len(opened)
        for gap, token in zip(line.gaps, line.tokens, strict=True):
            braces += (token.type == "LBRACE") - (token.type == "RBRACE" and braces > 0)
            if token.type in _OPENS:
                opened.append(line.indent)
            elif token.type in _CLOSES and opened:
                opened.pop()
            if token.type in _ASSIGNS and not opened and not before:
                bar = column + gap
            column += gap + len(token)
        last = line.tokens[-1]


@dataclass(slots=True)
class Line:
    """One line of the source. `gaps[i]` are the blanks before `tokens[i]`."""

    tokens: list[Token]
    comment: Token | None = None
    gaps: list[int] = field(default_factory=list)
    indent: int = 0
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

    def width(self, at: int) -> int:
        """Return the width of the line before the gap of token `at`."""
        return self.indent + sum(self.gaps[:at]) + sum(map(len, self.tokens[:at]))

    def depths(self) -> list[int]:
        """Return for each token how many brackets and braces of the line are open around it."""
        depths, depth = list[int](), 0
        for token in self.tokens:
            depth -= token.type in _ALL_CLOSES
            depths.append(depth)
            depth += token.type in _ALL_OPENS
        return depths


def break_long(lines: list[Line]) -> list[Line]:
    """Set the blanks and indentation of all lines, and break long lines until none can be broken; return the lines."""
    while True:
        last: Token | None = None
        for line in lines:
            _space(line, last)
            last = line.tokens[-1] if line.tokens else last
        _indent(lines)
        broken: list[Line] = []
        opened: list[str] = []
        for line in lines:
            broken += _parts(line, opened)
        if len(broken) == len(lines):
            return lines
        lines = broken


def _parts(line: Line, opened: list[str]) -> list[Line]:
    """Return a line, in parts if too long. `opened`: kinds of brackets open before it; changed to those open behind it."""
    cuts = (_body(line) or _cuts(line)) if len(line.code) > LIMIT else []
    parts: list[Line] = []
    for start, stop in pairwise((0, *cuts, len(line.tokens))):
        piece = line.tokens[start:stop]
        for token in piece:
            if token.type in _ALL_OPENS:
                opened.append(token.type)
            elif token.type in _ALL_CLOSES and opened:
                opened.pop()
        separates = cuts and piece[-1].type == "COMMA" and opened and opened[-1] == "LBRACE"
        parts.append(Line(piece[:-1] if separates else piece))
    parts[0].comment = line.comment
    return parts if cuts else [line]


def _body(line: Line) -> list[int]:
    """Return the token indices of `head { a, b }` where its statements and its `}` begin; empty for a line without a body."""
    kinds, depths = [token.type for token in line.tokens], line.depths()
    if "LBRACE" not in kinds:
        return []
    first = kinds.index("LBRACE") + 1
    if not kinds[first:] or kinds[first] == "RBRACE":
        return []
    level = depths[first - 1]
    ends = (i for i in range(first, len(kinds)) if depths[i] == level and kinds[i] == "RBRACE")
    if (closer := next(ends, None)) is None:
        return [first]
    commas = (i + 1 for i in range(first, closer) if kinds[i] == "COMMA" and depths[i] == level + 1)
    return sorted({first, *commas, closer})


def _cuts(line: Line) -> Sequence[int]:
    """Return the indices of the tokens to begin new lines with, from the outermost brackets that have any; else none."""
    depths, kinds = line.depths(), [token.type for token in line.tokens]
    at_depth = defaultdict[int, list[int]](list)
    for i in range(1, len(kinds)):
        at_depth[depths[i]].append(i)
    for _, at in sorted(at_depth.items()):
        for kind in _BEFORE_ALL:
            if cuts := [i for i in at if kinds[i] == kind]:
                return cuts
        groups = [[i + 1 for i in at if kinds[i] == "COMMA" and i + 1 < len(kinds)]]
        groups += [[i for i in at if kinds[i] in of and kinds[i - 1] in _ENDS_OPERAND] for of in _BEFORE_LAST]
        # the last cut that leaves at most LIMIT columns before it, else the first
        for group in filter(None, groups):
            return [next((cut for cut in reversed(group) if line.width(cut) <= LIMIT), group[0])]
    return []
