"""The formatter: one way to lay out a program. It moves blanks only, so it keeps every word and every comment.

A line break that it adds between two statements takes the place of their comma.

It works on the tokens, not on the tree: a file that does not parse yet can be formatted, and comments need no home. The
author's line breaks stay, and lines that are too long get more (syntax/lines.py). Indentation and the blanks within
a line are ours, columns too: however the same words are spaced, they come out the same.
"""

from __future__ import annotations

from collections.abc import Iterable

from puzzledsl.language.words import KEYWORDS
from puzzledsl.syntax.lines import ENDS_OPERAND, Line, align_code, align_comments, break_long
from puzzledsl.syntax.newlines import CONTINUES_AFTER, CONTINUES_BEFORE
from puzzledsl.syntax.parse import MAX_BYTES, MAX_TOKENS, normalise
from puzzledsl.syntax.tokens import Token, lex

INDENT = 2
_MISTAKES = {"UNKNOWN", "UNTERMINATED", "FOREIGN"}
_OPENS, _CLOSES = {"LPAR", "LSQB"}, {"RPAR", "RSQB"}
_ASSIGNS = {"EQUAL", "EXTEND", "REMOVE", "KEEP"}


def format_source(text: str) -> str:
    """Return the text in the one layout, ended by one newline. Idempotent.

    A text with characters, strings or spellings the language lacks is returned as it is, and so is one too large.
    """
    source = normalise(text)
    tokens = lex(source[: MAX_BYTES + 1], MAX_TOKENS + 1)
    if len(source) > MAX_BYTES or len(tokens) > MAX_TOKENS or any(t.type in _MISTAKES for t in tokens):
        return text
    lines = break_long(_lines(tokens), _lay_out)
    align_code(lines)
    _indent(lines)  # a `|` stands under its `=`, which may have moved
    align_comments(lines)
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
        closes = bool(line.tokens) and line.tokens[0].type == "RBRACE"
        if closes and kept and kept[-1].is_blank:
            kept.pop()
        opens = not kept or (bool(kept[-1].tokens) and kept[-1].tokens[-1].type == "LBRACE")
        if not line.is_blank or not (opens or kept[-1].is_blank):
            kept.append(line)
    return kept[:-1] if kept and kept[-1].is_blank else kept


def _lay_out(lines: list[Line]) -> None:
    last: Token | None = None
    for line in lines:
        _space(line, last)
        last = line.tokens[-1] if line.tokens else last
    _indent(lines)


def _space(line: Line, last: Token | None) -> None:
    """Set the gaps of a line: one blank or none between two tokens. `last` ends the line before."""
    line.gaps = []
    before, unary = None, False
    subscripts: list[bool] = []  # for each open bracket, whether it is `a[`
    for token in line.tokens:
        gap = 0 if before is None else _gap(before, token, unary)
        if before is not None and subscripts and subscripts[-1]:  # `a[i-1]` has no blank beside its sign
            signs = before.type == "ADD" or (token.type == "ADD" and before.type in ENDS_OPERAND)
            gap = 0 if signs else gap
        line.gaps.append(gap)
        if token.type in _OPENS:
            subscripts.append(token.type == "LSQB" and before is not None and before.type in ENDS_OPERAND)
        elif token.type in _CLOSES and subscripts:
            subscripts.pop()
        operand = before or last
        unary = token.type == "ADD" and (operand is None or operand.type not in ENDS_OPERAND)
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
            if token.type in _ASSIGNS and not opened and not before:
                bar = column + gap
            column += gap + len(token)
        last = line.tokens[-1]
