"""The place where something is written: the words before the cursor, and the gap that the checker finds there.

The text there is rarely complete. Nothing extends over a line that begins at the left margin, so the text since the last such
line is read with a name for what is missing, and with the brackets closed that are open.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from puzzledsl.base.diagnostics import Sink
from puzzledsl.checker.names.occurrences import CURSOR, Gap, gap_of
from puzzledsl.language.words import KEYWORDS
from puzzledsl.server.document import Document
from puzzledsl.syntax.newlines import CONTINUES_AFTER, CONTINUES_BEFORE
from puzzledsl.syntax.parse import parse
from puzzledsl.syntax.tokens import Token, lex

_CLOSERS = {"LPAR": ")", "LSQB": "]", "LBRACE": "\n}"}
_OPERANDS = ("NAME", "QUANTITY", "STRING", "RPAR", "RSQB")
_WHOLE = ("NAME", "QUANTITY", "STRING", "UNTERMINATED", "COMMENT", "DOC")
"""Tokens that the cursor is in, not behind, where it touches their end."""
_ENDINGS = ("", " then 0 else 0", " else 0", " { }")
"""Texts behind the missing name, of which the first that makes a statement of it is taken."""


@dataclass(slots=True)
class Written:
    """The text before a position without the word there, and its tokens.

    `statement` are the tokens of the statement so far, `opened` the brackets that are open, `touching` is the token that ends at
    the position.
    """

    text: str
    touching: Token | None
    statement: list[Token] = field(default_factory=list)
    opened: list[str] = field(default_factory=list)

    @property
    def last(self) -> Token | None:
        """The token before the word."""
        return self.statement[-1] if self.statement else None

    @property
    def behind_operand(self) -> bool:
        """True behind a complete value, where only an operator can follow."""
        return self.last is not None and self.last.type in _OPERANDS

    def gap(self, document: Document, *endings: str) -> Gap | None:
        """Return the place of the word as the checker reads it; None where it makes nothing of it."""
        closers = "".join(_CLOSERS[kind] for kind in reversed(self.opened))
        for ending in endings or _ENDINGS:
            text = f"{self.text}{CURSOR}{ending}{closers}"
            for item in parse(text, str(document.path), Sink()).items:
                if (found := gap_of(document.file, item)) is not None:
                    return found
        return None


def written_before(document: Document, line: int, column: int) -> Written:
    """Return what is written before a 1-based line and column."""
    lines = document.lines.lines
    first = line
    while first > 1 and not re.match(r"[A-Za-z_]", lines[first - 1]):
        first -= 1
    text = "\n".join([*lines[first - 1 : line - 1], lines[line - 1][: column - 1]])
    tokens = lex(text)
    touching = tokens[-1] if tokens and tokens[-1].type != "_NL" and tokens[-1].end_pos == len(text) else None
    if touching is not None and (touching.type in _WHOLE or touching in KEYWORDS):
        text = text[: tokens.pop().start_pos]
    found, ended = Written(text, touching), False  # `ended`: a newline came that may end the statement
    for token in tokens:
        in_brackets = bool(found.opened) and found.opened[-1] != "LBRACE"
        if token.type in ("COMMENT", "DOC"):
            continue
        if token.type == "_NL":
            may_end = found.last is None or found.last.type not in CONTINUES_AFTER
            ended = ended or (not in_brackets and may_end)
            continue
        if ended and token.type not in CONTINUES_BEFORE:
            found.statement = []
        if token.type in _CLOSERS:
            found.opened.append(token.type)
        elif token.type in ("RPAR", "RSQB", "RBRACE") and found.opened:
            found.opened.pop()
        separates = token.type == "COMMA" and found.opened and not in_brackets
        if separates or token.type in ("LBRACE", "RBRACE"):
            found.statement = []
        else:
            found.statement.append(token)
        ended = False
    if ended and (touching is None or touching.type not in CONTINUES_BEFORE):
        found.statement = []
    return found
