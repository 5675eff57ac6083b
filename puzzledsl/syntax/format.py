"""The formatter: one way to lay out a program. It moves blanks only, so it keeps every word and every comment.

It works on the tokens, not on the tree: a file that does not parse yet can be formatted, and comments need no home. The
author's line breaks stay, in long lines, too. Indentation, the blanks within a line and the columns of neighbours of one kind
depend on the tokens and the line breaks alone: however the same words are spaced, they come out the same, and formatting is
idempotent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import pairwise

from puzzledsl.language.words import KEYWORDS
from puzzledsl.syntax.newlines import ASSIGNS, CONTINUES_AFTER, CONTINUES_BEFORE
from puzzledsl.syntax.parse import MAX_BYTES, MAX_TOKENS, normalise
from puzzledsl.syntax.tokens import Token, lex

Test = Callable[["Line"], bool]
Alike = Callable[["Line", "Line"], bool]
INDENT = 2
_MISTAKES = {"UNKNOWN", "UNTERMINATED", "FOREIGN"}
_OPENS, _CLOSES = {"LPAR", "LSQB"}, {"RPAR", "RSQB"}
COMMENT_COLUMN = 49
"""Column (from 0) of a comment behind code, unless the code or a neighbour's code is longer."""
COMMENT_STEP = 8
MAX_PADDING = 24
"""The most blanks that alignment puts before a part; lines that need more are left unaligned."""
_ENDS_OPERAND = {"NAME", "QUANTITY", "STRING", "RPAR", "RSQB"}


def format_source(text: str) -> str:
    """Return the text in the one layout, ended by one newline. Idempotent. A text with lexical mistakes, or too large, stays."""
    source = normalise(text)
    tokens = lex(source[: MAX_BYTES + 1], MAX_TOKENS + 1)
    if len(source) > MAX_BYTES or len(tokens) > MAX_TOKENS or any(t.type in _MISTAKES for t in tokens):
        return text
    lines = _lines(tokens)
    last: Token | None = None
    for line in lines:
        _space(line, last)
        last = line.tokens[-1] if line.tokens else last
    _indent(lines)
    align_code(lines)
    _indent(lines)  # a `|` stands under its `=`, which may have moved
    # comments behind code stand at COMMENT_COLUMN, or two blanks behind the longest line of a group
    for group in _groups(lines, lambda line: bool(line.tokens) and line.comment is not None):
        column = max(len(line.code) + 2 for line in group)
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
    """Return a token with one blank between its words: `same as` has two."""
    return token.like(token.type, "same as") if token.type == "SAME_AS" else token


def _lines(tokens: list[Token]) -> list[Line]:
    """Return the lines with at most one blank line in a row, none at either end of the file or of a body."""
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
        if line.tokens and line.tokens[0].type == "RBRACE" and kept and kept[-1].is_blank:
            kept.pop()
        opens = not kept or (bool(kept[-1].tokens) and kept[-1].tokens[-1].type == "LBRACE")
        if not line.is_blank or not (opens or kept[-1].is_blank):
            kept.append(line)
    return kept[:-1] if kept and kept[-1].is_blank else kept


def _space(line: Line, last: Token | None) -> None:
    """Set the gaps of a line: one blank or none between two tokens. `last` ends the line before."""
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
    """Return the blanks between two neighbours. `unary`: `before` is a sign."""
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
    """Two columns a brace; what continues a line goes in, a leading `|` under the `=` of its statement."""
    opened: list[int] = []  # for each open bracket, the indentation of its line
    braces = bar = 0
    last: Token | None = None
    for line in lines:
        if not line.tokens:
            line.indent = opened[-1] + INDENT if opened else INDENT * braces
            continue
        first = line.tokens[0].type
        line.continues = bool(last) and (bool(opened) or first in CONTINUES_BEFORE)
        if last is not None and last.type in CONTINUES_AFTER and not (last.type == "COMMA" and braces):
            line.continues = True
        line.indent = INDENT * max(braces - (first == "RBRACE"), 0)
        if opened:
            line.indent = opened[-1]
            line.indent += 0 if first in _CLOSES else 2 * INDENT if first == "VBAR" else INDENT
        elif line.continues and first == "VBAR":
            line.indent = bar
        elif line.continues and first != "LBRACE":
            line.indent += 2 * INDENT
        if not line.continues:
            bar = line.indent + 2 * INDENT
        column, before = line.indent, len(opened)
        for gap, token in zip(line.gaps, line.tokens, strict=True):
            braces += (token.type == "LBRACE") - (token.type == "RBRACE" and braces > 0)
            if token.type in _OPENS:
                opened.append(line.indent)
            elif token.type in _CLOSES and opened:
                opened.pop()
            if token.type in ASSIGNS and not opened and not before:
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
        return self.code + " " * (self.comment_gap if self.tokens else self.indent) + self.comment.rstrip()

    def width(self, at: int) -> int:
        """Return the width of the line before the gap of token `at`."""
        return self.indent + sum(self.gaps[:at]) + sum(map(len, self.tokens[:at]))

    def find(self, *kinds: str) -> int | None:
        """Return the index of the first token of these kinds outside brackets and before a brace; None if there is none."""
        depth = 0
        for index, token in enumerate(self.tokens):
            if token.type == "LBRACE":
                return None
            depth -= token.type in _CLOSES or token.type == "RBRACE"
            if depth == 0 and index and token.type in kinds:
                return index
            depth += token.type in _OPENS
        return None

    def begins(self, *kinds: str) -> bool:
        """Return True for a line that begins a statement with tokens of these kinds."""
        return not self.continues and tuple(token.type for token in self.tokens[: len(kinds)]) == kinds


def align_code(lines: list[Line]) -> None:
    """Align the heads of neighbouring declarations, and the comparisons and reasons of neighbouring requirements."""

    def is_head(line: Line) -> bool:
        return line.begins("NAME", "NAME")

    def is_requirement(line: Line) -> bool:
        return line.begins("REQUIRE") or line.begins("PREFER")

    def is_bound(line: Line) -> bool:
        """Return True if the left side is a bare path: sums and counts are too long to share a column."""
        at = line.find("CMP")
        return is_requirement(line) and all(t.type in ("NAME", "DOT") for t in line.tokens[1:at])

    def alike(one: Line, two: Line) -> bool:
        return str(one.tokens[0]) == str(two.tokens[0])

    def related(one: Line, two: Line) -> bool:
        """Return True for two declarations of one kind or of one target: `search a of s`, `frontier b of s`."""
        return alike(one, two) or _target(one) == _target(two)

    _align(lines, is_head, ("OF", "ON"), related)
    _align(lines, is_head, ("EQUAL",), alike)
    _align(lines, is_bound, ("CMP",))
    _align(lines, is_requirement, ("BECAUSE",), least=2)


def _target(line: Line) -> str | None:
    return next((str(b) for a, b in pairwise(line.tokens) if a.type in ("OF", "ON")), None)


def _groups(lines: list[Line], belongs: Test, together: Alike | None = None) -> Iterable[list[Line]]:
    """Return the runs of neighbouring lines that satisfy `belongs`, split where `together` fails for two neighbours."""
    run: list[Line] = []
    for line in lines:
        fits = belongs(line)
        if run and not (fits and (together is None or together(run[-1], line))):
            yield run
            run = []
        if fits:
            run.append(line)
    if run:
        yield run


def _align(
    lines: list[Line], belongs: Test, kinds: tuple[str, ...], together: Alike | None = None, least: int = 1
) -> None:
    """Align the first tokens of some kinds in neighbouring lines."""
    for group in _groups(lines, lambda line: belongs(line) and line.find(*kinds) is not None, together):
        places = [(line, line.find(*kinds) or 0) for line in group]
        ends = [line.width(at) for line, at in places]
        if len(group) > 1 and max(ends) - min(ends) <= MAX_PADDING:
            for (line, at), end in zip(places, ends, strict=True):
                line.gaps[at] = max(ends) - end + least
