"""The formatter: one way to lay out a program. It moves blanks only, so it keeps every word and every comment.

A line break that it adds between two statements takes the place of their comma.

It works on the tokens, not on the tree: a file that does not parse yet can be formatted, and comments need no home. The
author's line breaks stay, and lines that are too long get more (syntax/break_lines.py). Indentation and the blanks within
a line are ours, columns too (syntax/align.py): however the same words are spaced, they come out the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice

from puzzledsl.language.words import KEYWORDS
from puzzledsl.syntax.formatting.align import Line, align_code, align_comments
from puzzledsl.syntax.formatting.break_lines import break_long
from puzzledsl.syntax.newlines import CONTINUES_AFTER, CONTINUES_BEFORE
from puzzledsl.syntax.parse import MAX_BYTES, MAX_TOKENS, normalise
from puzzledsl.syntax.tokens import Token, lex

INDENT = 2
_MISTAKES = {"UNKNOWN", "UNTERMINATED", "FOREIGN"}
_OPENS, _CLOSES = {"LPAR", "LSQB"}, {"RPAR", "RSQB"}
_ASSIGNS = {"EQUAL", "EXTEND", "REMOVE", "KEEP"}
_ENDS_OPERAND = {"NAME", "QUANTITY", "STRING", "RPAR", "RSQB"}


def format_source(text: str) -> str:
    """The text in the one layout, ended by one newline. Idempotent.

    A text with characters, strings or spellings the language lacks is returned as it is, and so is one too large.
    """
    source = normalise(text)
    tokens = list(islice(lex(source[: MAX_BYTES + 1]), MAX_TOKENS + 1))
    if len(source) > MAX_BYTES or len(tokens) > MAX_TOKENS or any(t.type in _MISTAKES for t in tokens):
        return text
    lines = break_long(_without_spare_blanks(_lines(tokens)), _lay_out)
    align_code(lines)
    _indent(lines)  # a `|` stands under its `=`, which may have moved
    align_comments(lines)
    result = "".join(f"{line}".rstrip() + "\n" for line in lines)
    # Blanks never change what the tokens are in a program that parses; in a broken one two may grow together.
    kept = [word for line in lines for word in (*line.tokens, line.comment) if word is not None]
    return result if _words(lex(result)) == _words(kept) else text


def _lay_out(lines: list[Line]) -> None:
    last: Token | None = None
    for line in lines:
        _space(line, last)
        last = line.tokens[-1] if line.tokens else last
    _indent(lines)


def _words(tokens: Iterable[Token]) -> list[str]:
    return [_plain(t).rstrip() for t in tokens if t.type != "_NL"]


def _lines(tokens: list[Token]) -> list[Line]:
    lines = [Line([])]
    for token in tokens:
        if token.type == "_NL":
            lines.append(Line([]))
        elif token.type in ("COMMENT", "DOC"):
            lines[-1].comment = token
        else:
            lines[-1].tokens.append(_plain(token))
    return lines


def _plain(token: Token) -> Token:
    """A token with one blank between its words: `same as` has two."""
    return token.like(token.type, "same as") if token.type == "SAME_AS" else token


def _without_spare_blanks(lines: list[Line]) -> list[Line]:
    """At most one blank line in a row, none at either end of the file or of a body."""
    kept: list[Line] = []
    for index, line in enumerate(lines):
        if line.is_blank:
            following = next((other for other in lines[index:] if not other.is_blank), None)
            opens = not kept or (bool(kept[-1].tokens) and kept[-1].tokens[-1].type == "LBRACE")
            closes = following is None or (bool(following.tokens) and following.tokens[0].type == "RBRACE")
            if opens or closes or kept[-1].is_blank:
                continue
        kept.append(line)
    return kept


# ---------------------------------------------------------------- blanks within a line


def _space(line: Line, last: Token | None) -> None:
    """Set the gaps of a line: one blank or none between two tokens. `last` ends the line before."""
    line.gaps = []
    unary = False
    subscripts: list[bool] = []  # for each open bracket, whether it is `a[`
    for index, token in enumerate(line.tokens):
        before = line.tokens[index - 1] if index else None
        tight = bool(subscripts) and subscripts[-1] and _is_sum(before, token)
        line.gaps.append(0 if before is None or tight else _gap(before, token, unary))
        if token.type in _OPENS:
            subscripts.append(token.type == "LSQB" and before is not None and before.type in _ENDS_OPERAND)
        elif token.type in _CLOSES and subscripts:
            subscripts.pop()
        operand = before or last
        unary = token.type == "ADD" and (operand is None or operand.type not in _ENDS_OPERAND)


def _is_sum(before: Token | None, token: Token) -> bool:
    """True at either side of the sign in `a[i - 1]`, which is written `a[i-1]`."""
    if before is None:
        return False
    return before.type == "ADD" or (token.type == "ADD" and before.type in _ENDS_OPERAND)


def _gap(before: Token, token: Token, unary: bool) -> int:
    """The blanks between two neighbours. `unary`: `before` is a sign."""
    left, right = before.type, token.type
    if unary or left in _OPENS or right in _CLOSES or right in ("COMMA", "COLON", "DOT") or left == "DOT":
        return 0
    if left == "LBRACE" and right == "RBRACE":
        return 0
    if right == "RANGE":
        return int(left == "COMMA" or before in KEYWORDS)
    if left == "RANGE":
        return int(token in KEYWORDS)
    if right in _OPENS:
        return int(left not in ("NAME", "RPAR", "RSQB"))
    return 1


# ---------------------------------------------------------------- indentation


@dataclass(slots=True)
class _OpenLine:
    """A line that left brackets open: how many of them still are, and where it began."""

    count: int
    indent: int


def _indent(lines: list[Line]) -> None:
    """Two columns a brace; what continues a line goes in, a leading `|` under the `=` of its statement."""
    open_lines: list[_OpenLine] = []
    braces = bar = 0
    last: Token | None = None
    for line in lines:
        if not line.tokens:
            line.indent = open_lines[-1].indent + INDENT if open_lines else INDENT * braces
            continue
        first = line.tokens[0].type
        line.continues = last is not None and _continues(first, last, bool(open_lines), bool(braces))
        line.indent = _margin(line, braces, open_lines, bar)
        if not line.continues:
            bar = line.indent + 2 * INDENT
        column, opened = line.indent, 0
        for gap, token in zip(line.gaps, line.tokens, strict=True):
            braces += (token.type == "LBRACE") - (token.type == "RBRACE" and braces > 0)
            opened += (token.type in _OPENS) - (token.type in _CLOSES)
            if token.type in _ASSIGNS and not opened and not open_lines:
                bar = column + gap
            column += gap + len(token)
        _close(open_lines, -opened)
        if opened > 0:
            open_lines.append(_OpenLine(opened, line.indent))
        last = line.tokens[-1]


def _margin(line: Line, braces: int, open_lines: list[_OpenLine], bar: int) -> int:
    """The indentation of a line. `bar` is the column of the last `=`."""
    first = line.tokens[0].type
    if open_lines:
        return open_lines[-1].indent + (0 if first in _CLOSES else 2 * INDENT if first == "VBAR" else INDENT)
    if line.continues and first == "VBAR":
        return bar
    margin = INDENT * max(braces - (first == "RBRACE"), 0)
    return margin + (2 * INDENT if line.continues and first != "LBRACE" else 0)


def _close(open_lines: list[_OpenLine], count: int) -> None:
    """Take `count` closing brackets off the innermost lines."""
    while open_lines and count > 0:
        taken = min(count, open_lines[-1].count)
        open_lines[-1].count -= taken
        count -= taken
        if not open_lines[-1].count:
            open_lines.pop()


def _continues(first: str, last: Token, brackets: bool, braces: bool) -> bool:
    """True where a line that begins with `first`, after one that ends with `last`, goes on with its statement."""
    if brackets or first in CONTINUES_BEFORE:
        return True
    return last.type in CONTINUES_AFTER and not (last.type == "COMMA" and braces)
