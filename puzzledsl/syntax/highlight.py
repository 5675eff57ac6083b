"""Colour by words alone: the class of every token, told from its neighbours on the line.

The one source of what is coloured how: the Pygments lexer, the report and the generated TextMate grammar follow it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal, get_args

from puzzledsl.language.words import DECLARATIONS, KEYWORDS, OPERATOR_KEYWORDS, TARGET_KEYWORDS
from puzzledsl.syntax.tokens import Token, lex

TokenClass = Literal[
    "comment",
    "doc",
    "keyword",
    "operator_word",
    "kind",
    "declaration",
    "type",
    "attribute",
    "argument",
    "setting",
    "call",
    "name",
    "string",
    "number",
    "operator",
    "punctuation",
    "error",
]
CLASSES: tuple[TokenClass, ...] = get_args(TokenClass)

DECLARES = ("let", "param", "fn")
"""Keywords that a name follows which they declare."""
PUNCTUATION = ("LPAR", "RPAR", "LSQB", "RSQB", "LBRACE", "RBRACE", "COMMA", "COLON", "DOT")
ASSIGNS = ("EQUAL", "EXTEND", "REMOVE", "KEEP")
MISTAKES = ("FOREIGN", "UNTERMINATED", "UNKNOWN")
_FIXED: dict[str, TokenClass] = {
    "COMMENT": "comment",
    "STRING": "string",
    "QUANTITY": "number",
    **dict.fromkeys(PUNCTUATION, "punctuation"),
    **dict.fromkeys(MISTAKES, "error"),
}


def classified(text: str) -> list[tuple[Token, TokenClass]]:
    """Every token of a text with its class, newlines aside."""
    return [pair for line in _lines(lex(text)) for pair in _classify(line)]


def _lines(tokens: Iterable[Token]) -> Iterator[list[Token]]:
    line: list[Token] = []
    for token in tokens:
        if token.type == "_NL":
            yield line
            line = []
        else:
            line.append(token)
    yield line


def _classify(line: list[Token]) -> Iterator[tuple[Token, TokenClass]]:
    """The tokens of one line with their classes."""
    before: list[tuple[Token, TokenClass]] = []
    for index, token in enumerate(line):
        following = line[index + 1] if index + 1 < len(line) else None
        pair = token, _class(token, before, following)
        before.append(pair)
        yield pair


def _class(token: Token, before: list[tuple[Token, TokenClass]], following: Token | None) -> TokenClass:
    if token.type in _FIXED:
        return _FIXED[token.type]
    if token.type == "DOC":
        return "comment" if before else "doc"
    if token.type == "NAME":
        return _name(token, before, following.type if following is not None else "")
    if token.type == "SAME_AS":
        return "operator_word"
    if token in KEYWORDS:
        return "operator_word" if token in OPERATOR_KEYWORDS else "keyword"
    return "operator"


def _name(token: Token, before: list[tuple[Token, TokenClass]], following: str) -> TokenClass:
    """The class of a name: by what stands before it, then by what follows."""
    last, last_class = before[-1] if before else (None, None)
    if last is None and token.column == 1 and token in DECLARATIONS and following == "NAME":
        return "kind"
    if last_class == "kind" or (last is not None and last_class == "keyword" and last in DECLARES):
        return "declaration"
    if last is not None and last.type == "DOT":
        return "attribute"
    if last is not None and last_class == "keyword" and last in TARGET_KEYWORDS:
        return "name"
    if [t.type for t, _ in before] == ["PARAM", "NAME", "COLON"]:
        return "type"
    if following == "COLON":
        return "argument"
    if following == "LPAR":
        return "call"
    return "setting" if following in ASSIGNS else "name"
