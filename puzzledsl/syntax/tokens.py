"""Tokens of a file, their spans, and tokens that recovery inserts."""

from __future__ import annotations

from dataclasses import dataclass, field

from puzzledsl.base.diagnostics import Span
from puzzledsl.syntax.lark_alone import Token


@dataclass(slots=True)
class Words:
    """The tokens of a file, its doc comments, and the lines with lexical mistakes."""

    tokens: list[Token]
    docs: list[Token]
    file: str
    tainted: set[int] = field(default_factory=set)
    mended: set[int] = field(
        default_factory=set
    )  # lines with a foreign spelling, read as what was likely meant


def span_of(token: Token, file: str) -> Span:
    """Return the span of a token."""
    line, column = token.line or 1, token.column or 1
    return Span(file, line, column, token.end_line or line, token.end_column or column)


def after(token: Token, file: str) -> Span:
    """Return the span of the one column just behind a token, for something that is missing."""
    line, column = token.end_line or 1, token.end_column or 1
    return Span(file, line, column, line, column + 1)


def virtual(kind: str, text: str, near: Token) -> Token:
    """Return an inserted token of width zero, just behind `near`."""
    return Token(
        kind, text, near.end_pos, near.end_line, near.end_column, near.end_line, near.end_column, near.end_pos
    )
