"""From raw tokens to words: report lexical mistakes, repair those with a clear intention, and remove the others.

The output contains no comments and none of the lexer's three kinds of mistakes, so the layout and the parser need not
handle them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from lark import Token

from puzzledsl.base.diagnostics import Fix, Sink, Span
from puzzledsl.syntax import errors

# Another language's spelling -> (the token meant, how to write it here).
FOREIGN = {
    "&&": ("AND", "and", "write `and`"),
    "||": ("OR", "or", "write `or`; alternatives are separated by one `|`"),
    "!": ("NOT", "not", "write `not`"),
    "≤": ("CMP", "<=", "write `<=`"),
    "≥": ("CMP", ">=", "write `>=`"),
    "≠": ("CMP", "!=", "write `!=`"),
    "→": ("ARROW", "->", "write `->`"),
    "…": ("RANGE", "..", "write `..`"),
    "×": ("STAR", "*", "write `*`"),
    "–": ("ADD", "-", "write `-`"),
    "−": ("ADD", "-", "write `-`"),
    ";": ("COMMA", ",", "statements end with their line; on one line, separate them with `,`"),
}
LOOKALIKES = {
    "“": '"',
    "”": '"',
    "‘": '"',
    "’": '"',
    "'": '"',
    "`": '"',
    "\xa0": "a plain space",
    "–": "-",
    "&": "and",
    "^": "*",
}


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


def read_words(tokens: list[Token], text: str, file: str, sink: Sink) -> Words:
    """Return the words of a file's tokens; report and repair lexical mistakes. `text` is the whole file."""
    words = Words([], [], file)
    torn = {
        t.line for t in tokens if t.type == "UNTERMINATED"
    }  # lines whose characters may belong to a string
    raw = [t for t in tokens if t.type != "COMMENT"]
    index = 0
    while index < len(raw):
        token = raw[index]
        index += 1
        if token.type == "DOC":
            if index == 1 or raw[index - 2].type == "_NL":  # behind code it is a mere comment
                words.docs.append(token)
        elif token.type == "UNKNOWN":
            while (
                index < len(raw)
                and raw[index].type == "UNKNOWN"
                and raw[index].start_pos == raw[index - 1].end_pos
            ):
                index += 1
            if token.line not in torn:
                _unknown(token, raw[index - 1], text, words, sink)
        elif token.type == "UNTERMINATED":
            sink.add(errors.UnterminatedString(span_of(token, file)))
            words.tainted.add(token.line or 1)
            words.tokens.append(_as("STRING", token + '"', token))
        elif token.type == "FOREIGN":
            _foreign(token, raw[index] if index < len(raw) else None, text, words, sink)
        else:
            words.tokens.append(token)
    return words


def _as(kind: str, text: str, token: Token) -> Token:
    """Return a token of another kind and text at the place of `token`."""
    return Token.new_borrow_pos(kind, text, token)


def _unknown(first: Token, last: Token, text: str, words: Words, sink: Sink) -> None:
    run = text[first.start_pos : last.end_pos]
    shown = run if run.isprintable() else run.encode("unicode_escape").decode()
    shown = shown if len(shown) <= 20 else shown[:19] + "…"
    meant = LOOKALIKES.get(run[0])
    where = span_of(first, words.file).to(span_of(last, words.file))
    sink.add(
        errors.UnknownCharacter(
            where,
            text=shown,
            plural="s" if len(run) > 1 else "",
            help=f"did you mean `{meant}`?" if meant else "",
            fixes=_instead(where, run, meant),
        )
    )
    words.tainted.add(where.line)


def _instead(where: Span, run: str, meant: str | None) -> list[Fix]:
    if meant is None or len(run) > 1:
        return []
    return [Fix.replace(where, " " if run == "\xa0" else meant, safe=run == "\xa0")]


def _foreign(token: Token, following: Token | None, source: str, words: Words, sink: Sink) -> None:
    text, where = str(token), span_of(token, words.file)

    def report(shown: str, wanted: str, *fixes: Fix) -> None:
        sink.add(errors.ForeignSpelling(where, text=shown, wanted=wanted, fixes=fixes))
        words.mended.add(where.line)

    if text.startswith("//"):
        slashes = Span(where.file, where.line, where.column, where.line, where.column + 2)
        report("//", "a comment begins with `#`", Fix.replace(slashes, "#"))
    elif text[0] in "'“”":
        plain = '"' + re.sub(r'["\\]', r"\\\g<0>", text[1:-1]) + '"'
        report(text[0], 'strings stand in plain double quotes: `"`', Fix.replace(where, plain))
        words.tokens.append(_as("STRING", plain, token))
    else:
        kind, spelling, wanted = FOREIGN[text]
        ends = kind == "COMMA" and (following is None or following.type == "_NL")
        report(text, wanted, Fix.replace(where, "" if ends else _apart(spelling, token, source)))
        if not ends:
            words.tokens.append(_as(kind, spelling, token))


def _apart(spelling: str, token: Token, source: str) -> str:
    """Return a word with the blanks that separate it from the text around `token`."""
    if not spelling.isalpha():
        return spelling
    start, stop = token.start_pos or 0, token.end_pos or 0
    before = " " if start and not source[start - 1].isspace() and source[start - 1] not in "([{" else ""
    behind = " " if stop < len(source) and not source[stop].isspace() else ""
    return before + spelling + behind
