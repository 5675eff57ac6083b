"""Words of a text, as grammars/pzl.lark says (of which `scripts/grammar.py` makes pzl.json): the lexer, which is total."""

from __future__ import annotations

import functools
import json
import re
from dataclasses import dataclass, field
from typing import Any

from puzzledsl.base.diagnostics import Span
from puzzledsl.base.resources import resource


class Token(str):
    """A word with its kind and its place: 0-based offsets, 1-based lines and columns of code points, ends exclusive."""

    __slots__ = ("column", "end_column", "end_line", "end_pos", "line", "start_pos", "type")
    type: str
    start_pos: int
    end_pos: int
    line: int
    column: int
    end_line: int
    end_column: int

    def like(self, kind: str, text: str) -> Token:
        """Return a token of another kind and text at this place."""
        token = Token(text)
        for name in Token.__slots__:
            setattr(token, name, getattr(self, name))
        token.type = kind
        return token


@functools.cache
def grammar() -> Any:
    """Return the content of grammars/pzl.json."""
    return json.loads(resource("grammars", "pzl.json").read_bytes())


@functools.cache
def _lexer() -> tuple[re.Pattern[str], frozenset[str]]:
    words = "|".join(f"(?P<{name}>{expression})" for name, expression in grammar()["words"])
    return re.compile(words), frozenset(grammar()["keywords"])


def lex(text: str, most: int | None = None) -> list[Token]:
    """Return the tokens of any text, comments, newlines and mistakes included; with `most`, only so many."""
    pattern, keywords = _lexer()
    found: list[Token] = []
    line, margin = 1, -1
    for match in pattern.finditer(text):
        kind = match.lastgroup or ""
        start, end = match.span()
        if kind == "BLANK":
            continue
        token = Token(match.group())
        token.type = token.upper() if kind == "NAME" and token in keywords else kind
        token.start_pos, token.line, token.column = start, line, start - margin
        if kind == "_NL":
            line, margin = line + 1, start
        token.end_pos, token.end_line, token.end_column = end, line, end - margin
        found.append(token)
        if len(found) == most:
            break
    return found


@dataclass(slots=True)
class Words:
    """The tokens of a file, its doc comments, and the lines with lexical mistakes."""

    tokens: list[Token]
    docs: list[Token]
    file: str
    tainted: set[int] = field(default_factory=set)
    mended: set[int] = field(default_factory=set)
    """Lines with a foreign spelling, read as what was likely meant."""


def span_of(token: Token, file: str) -> Span:
    """Return the span of a token."""
    return Span(file, token.line, token.column, token.end_line, token.end_column)


def after(token: Token, file: str) -> Span:
    """Return the span of the one column just behind a token, for something that is missing."""
    return Span(file, token.end_line, token.end_column, token.end_line, token.end_column + 1)


def virtual(kind: str, text: str, near: Token) -> Token:
    """Return an inserted token of width zero, just behind `near`."""
    token = near.like(kind, text)
    token.start_pos, token.line, token.column = near.end_pos, near.end_line, near.end_column
    return token
