"""Syntactic context of a cursor, from the tokens before it: the text there is rarely complete.

Nothing extends over a line that begins at the left margin, so only the tokens since the last such line are read.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from puzzledsl.base.diagnostics import Span
from puzzledsl.language.words import KEYWORDS
from puzzledsl.server.document import Document
from puzzledsl.syntax import tree
from puzzledsl.syntax.newlines import CONTINUES_AFTER, CONTINUES_BEFORE
from puzzledsl.syntax.tokens import Token, lex

_NOWHERE = Span("", 1, 1, 1, 1)
_OPENS, _CLOSES = ("LPAR", "LSQB"), ("RPAR", "RSQB")
_OPERANDS = ("NAME", "QUANTITY", "STRING", "RPAR", "RSQB")


@dataclass(slots=True)
class Body:
    """An open brace: of a declaration, of a section in one, or of a `for`. `names` are those declared in it so far."""

    kind: str = ""
    name: str = ""
    section: str = ""
    names: dict[str, tree.Expr | None] = field(default_factory=dict)


@dataclass(slots=True)
class OpenCall:
    """An open bracket in a statement. `words` are the tokens inside, `callee` the tokens before `(`."""

    callee: list[Token]
    opener: Token
    words: list[Token] = field(default_factory=list)

    @property
    def argument(self) -> tuple[str | None, int]:
        """Return the name of the argument being written, if any, and its index."""
        depth, place, start = 0, 0, 0
        for index, token in enumerate(self.words):
            depth += (token.type in _OPENS) - (token.type in _CLOSES)
            if token.type == "COMMA" and not depth:
                place, start = place + 1, index + 1
        own = self.words[start:]
        named = len(own) >= 2 and own[0].type == "NAME" and own[1].type == "COLON"
        return (str(own[0]) if named else None), place

    @property
    def at_start(self) -> bool:
        """True at the beginning of an argument."""
        return not self.words or self.words[-1].type == "COMMA"


@dataclass(slots=True)
class Cursor:
    """The context before a position. `word` is the partial name there, `touching` the token that ends at the position."""

    statement: list[Token] = field(default_factory=list)
    bodies: list[Body] = field(default_factory=list)
    calls: list[OpenCall] = field(default_factory=list)
    word: Token | None = None
    touching: Token | None = None

    @property
    def last(self) -> Token | None:
        """The token before the word."""
        return self.statement[-1] if self.statement else None

    @property
    def body(self) -> Body | None:
        """The innermost body."""
        return self.bodies[-1] if self.bodies else None

    @property
    def behind_operand(self) -> bool:
        """True behind a complete value, where only an operator can follow."""
        return self.last is not None and self.last.type in _OPERANDS


def cursor_at(document: Document, line: int, column: int) -> Cursor:
    """Return the context of a 1-based line and column."""
    lines = document.lines.lines
    first = line
    while first > 1 and not re.match(r"[A-Za-z_]", lines[first - 1]):
        first -= 1
    text = "\n".join([*lines[first - 1 : line - 1], lines[line - 1][: column - 1]])
    tokens = list(lex(text))
    reader = _Reader()
    touching = tokens[-1] if tokens and tokens[-1].end_pos == len(text) else None
    if touching is not None and touching.type != "_NL":
        is_word = touching.type == "NAME" or touching in KEYWORDS
        reader.cursor.touching = touching
        if is_word or touching.type in ("QUANTITY", "STRING", "UNTERMINATED", "COMMENT", "DOC"):
            reader.cursor.word = touching if is_word else None
            tokens.pop()
    for token in tokens:
        reader.take(token)
    reader.end(reader.cursor.touching)
    return reader.cursor


@dataclass(slots=True)
class _Reader:
    cursor: Cursor = field(default_factory=Cursor)
    ended: bool = False  # a newline came that may end the statement

    def take(self, token: Token) -> None:
        cursor = self.cursor
        if token.type in ("COMMENT", "DOC"):
            return
        if token.type == "_NL":
            last = cursor.last
            self.ended |= not cursor.calls and (last is None or last.type not in CONTINUES_AFTER)
            return
        self.end(token)
        if token.type == "LBRACE":
            cursor.bodies.append(_body(cursor.statement, cursor.body))
            self.restart()
        elif token.type == "RBRACE":
            if cursor.bodies:
                cursor.bodies.pop()
            self.restart()
        elif token.type == "COMMA" and cursor.bodies and not cursor.calls:
            self.restart()
        else:
            self.put(token)

    def end(self, following: Token | None) -> None:
        """End the statement before `following` if the newline between them ends it."""
        if self.ended and (following is None or following.type not in CONTINUES_BEFORE):
            self.restart()
        self.ended = False

    def restart(self) -> None:
        cursor = self.cursor
        if cursor.body is not None:
            _note_names(cursor.statement, cursor.body)
        cursor.statement, cursor.calls = [], []

    def put(self, token: Token) -> None:
        cursor = self.cursor
        if token.type in _OPENS:
            opened = OpenCall(postfix(cursor.statement), token)
            self.note(token)
            cursor.calls.append(opened)
        elif token.type in _CLOSES:
            if cursor.calls:
                cursor.calls.pop()
            self.note(token)
        else:
            self.note(token)

    def note(self, token: Token) -> None:
        self.cursor.statement.append(token)
        for call in self.cursor.calls:
            call.words.append(token)


def _body(statement: list[Token], outer: Body | None) -> Body:
    names = dict(outer.names) if outer is not None else {}
    kind = outer.kind if outer is not None else ""
    match [t.type for t in statement[:2]]:
        case ["NAME", "NAME"] if outer is None:
            return Body(str(statement[0]), str(statement[1]))
        case ["NAME"]:
            return Body(kind, outer.name if outer else "", str(statement[0]), names)
        case ["FOR", "NAME"]:
            names[str(statement[1])] = _after(statement, "IN")
    return Body(kind, outer.name if outer else "", "", names)


def _note_names(statement: list[Token], body: Body) -> None:
    if len(statement) >= 2 and statement[0].type == "LET" and statement[1].type == "NAME":
        body.names[str(statement[1])] = _after(statement, "EQUAL")


def _after(statement: list[Token], kind: str) -> tree.Expr | None:
    """Return the value behind a token of a kind, up to the end of a name with dots and brackets."""
    places = [i for i, t in enumerate(statement) if t.type == kind]
    return path_of(statement[places[0] + 1 :]) if places else None


# ---------------------------------------------------------------- names with dots and brackets


def postfix(tokens: list[Token]) -> list[Token]:
    """Return the longest `a.b[…].c` at the end of the tokens."""
    at, depth = len(tokens), 0
    while at:
        token = tokens[at - 1]
        if token.type in _CLOSES:
            depth += 1
        elif token.type in _OPENS:
            if not depth:
                break
            depth -= 1
        elif not depth:
            following = tokens[at].type if at < len(tokens) else "DOT"
            fits = (
                (token.type == "NAME" and following in ("DOT", *_OPENS))
                or (token.type == "DOT" and following == "NAME")
                or at == len(tokens)
            )
            if not fits or token.type not in ("NAME", "DOT"):
                break
        at -= 1
    return tokens[at:]


def path_of(tokens: list[Token]) -> tree.Expr | None:
    """Return `a.b[…].c` as an expression with empty brackets; None for anything else."""
    if not tokens or tokens[0].type != "NAME":
        return None
    found: tree.Expr = tree.Name(span=_NOWHERE, text=str(tokens[0]))
    at = 1
    while at < len(tokens):
        if tokens[at].type == "DOT" and at + 1 < len(tokens) and tokens[at + 1].type == "NAME":
            name = tree.Name(span=_NOWHERE, text=str(tokens[at + 1]))
            found = tree.Attribute(span=_NOWHERE, target=found, name=name)
            at += 2
        elif tokens[at].type in _OPENS:
            is_index = tokens[at].type == "LSQB"
            at = _closing(tokens, at) + 1
            if is_index:
                found = tree.Index(span=_NOWHERE, target=found, items=(), where=None)
        else:
            break
    return found


def _closing(tokens: list[Token], at: int) -> int:
    depth = 0
    for index in range(at, len(tokens)):
        depth += (tokens[index].type in _OPENS) - (tokens[index].type in _CLOSES)
        if not depth:
            return index
    return len(tokens)
