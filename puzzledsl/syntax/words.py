"""From raw tokens to words: report lexical mistakes, repair those with a clear intention, and remove the others.

The output contains no comments and none of the lexer's three kinds of mistakes, so the layout and the parser need not
handle them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from puzzledsl.base.diagnostics import Edit, Fix, Sink, Span
from puzzledsl.syntax import errors
from puzzledsl.syntax.tokens import Token, Words, span_of

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
    "\xa0": " ",
    "–": "-",
    "&": "and",
    "^": "*",
}


def read_words(tokens: list[Token], text: str, file: str, sink: Sink) -> Words:
    """Return the words of a file's tokens; report and repair lexical mistakes. `text` is the whole file."""
    raw = [t for t in tokens if t.type != "COMMENT"]
    torn = {t.line for t in raw if t.type == "UNTERMINATED"}  # their characters may belong to a string
    reader = _Reader(raw, text, Words([], [], file), sink, torn)
    reader.run()
    return reader.words


@dataclass(slots=True)
class _Reader:
    raw: list[Token]
    text: str
    words: Words
    sink: Sink
    torn: set[int]
    index: int = 0

    def run(self) -> None:
        while self.index < len(self.raw):
            token = self.raw[self.index]
            self.index += 1
            match token.type:
                case "DOC":
                    if (
                        self.index == 1 or self.raw[self.index - 2].type == "_NL"
                    ):  # behind code it is a comment
                        self.words.docs.append(token)
                case "UNKNOWN":
                    self.unknown(token)
                case "UNTERMINATED":
                    self.sink.add(errors.UnterminatedString(span_of(token, self.words.file)))
                    self.words.tainted.add(token.line)
                    self.words.tokens.append(_as("STRING", token + '"', token))
                case "FOREIGN":
                    self.foreign(token)
                case "SLASH" if self.touches("STAR"):
                    self.block_comment(token)
                case "EQUAL" if self.touches("CMP") and self.raw[self.index] in ("<", ">"):
                    self.turned_comparison(token)
                case _:
                    self.words.tokens.append(token)

    def touches(self, kind: str) -> bool:
        """True where a token of a kind stands right behind the one that was read last."""
        following = self.ahead()
        return (
            following is not None
            and following.type == kind
            and following.start_pos == self.raw[self.index - 1].end_pos
        )

    def ahead(self, offset: int = 0) -> Token | None:
        """Return the next token, or one further on."""
        at = self.index + offset
        return self.raw[at] if at < len(self.raw) else None

    def before(self, back: int = 1) -> str:
        """Return the kind of one of the last words of this line."""
        return self.words.tokens[-back].type if len(self.words.tokens) >= back else "_NL"

    def report(self, where: Span, shown: str, wanted: str, *fixes: Fix) -> None:
        """Report a spelling of another language; its line is read on as what it most likely means."""
        self.sink.add(errors.ForeignSpelling(where, text=shown, wanted=wanted, fixes=fixes))
        self.words.mended.add(where.line)

    # ------------------------------------------------------------ characters

    def unknown(self, first: Token) -> None:
        """Report a run of characters that mean nothing, or read what they mean elsewhere."""
        while self.touches("UNKNOWN"):
            self.index += 1
        last = self.raw[self.index - 1]
        if first.line in self.torn:
            return
        run = self.text[first.start_pos : last.end_pos]
        if run == "%" and self.percent(first):
            return
        shown = run if run.isprintable() else run.encode("unicode_escape").decode()
        shown = shown if len(shown) <= 20 else shown[:19] + "…"
        where = span_of(first, self.words.file).to(span_of(last, self.words.file))
        meant = LOOKALIKES.get(run[0])
        help = f"did you mean `{meant}`?" if meant else ""
        if meant == " ":
            help = "write a plain space"
        if run == "?":
            help = "`if` chooses between two values: `if CONDITION then A else B`"
        fixes = _instead(where, run, meant)
        plural = "s" if len(run) > 1 else ""
        self.sink.add(errors.UnknownCharacter(where, text=shown, plural=plural, help=help, fixes=fixes))
        self.words.tainted.add(where.line)

    def percent(self, token: Token) -> bool:
        """Read `i % 4` as `i mod 4`, and `95 %` as `95%`; return False where it can be neither."""
        before, following = self.words.tokens[-1] if self.words.tokens else None, self.ahead()
        if before is None or before.line != token.line:
            return False
        where = span_of(token, self.words.file)
        if following is not None and following.type in ("NAME", "QUANTITY", "LPAR"):
            if before.type not in ("NAME", "QUANTITY", "RPAR", "RSQB"):
                return False
            fix = Fix.replace(where, _apart("mod", token, self.text), "write `mod`")
            shown = f"{before} % {following}"
            self.report(where, shown, f"the remainder is `mod`: write `{shown.replace('%', 'mod')}`", fix)
            self.words.tokens.append(_as("MOD", "mod", token))
            return True
        if before.type == "QUANTITY" and before[-1].isdigit():
            whole = span_of(before, self.words.file).to(where)
            meant = f"{before}%"
            self.report(
                where, f"{before} %", f"no blank before a unit: write `{meant}`", Fix.replace(whole, meant)
            )
            self.words.tokens[-1] = _as("QUANTITY", meant, before)
            return True
        return False

    # ------------------------------------------------------------ spellings of other languages

    def foreign(self, token: Token) -> None:
        text, where = str(token), span_of(token, self.words.file)
        if text.startswith("//"):
            slashes = Span(where.file, where.line, where.column, where.line, where.column + 2)
            self.report(where, "//", "a comment begins with `#`", Fix.replace(slashes, "#"))
        elif text[0] in "'“”":
            plain = '"' + re.sub(r'["\\]', r"\\\g<0>", text[1:-1]) + '"'
            help = 'strings stand in plain double quotes: `"`'
            self.report(where, text[0], help, Fix.replace(where, plain))
            self.words.tokens.append(_as("STRING", plain, token))
        else:
            kind, spelling, wanted = FOREIGN[text]
            following = self.ahead()
            ends = kind == "COMMA" and (following is None or following.type == "_NL")
            fix = Fix.replace(where, "" if ends else _apart(spelling, token, self.text))
            self.report(where, text, wanted, fix)
            if not ends:
                self.words.tokens.append(_as(kind, spelling, token))

    def turned_comparison(self, token: Token) -> None:
        """Read `=<` as `<=`, and `=>` as what its neighbours ask for."""
        sign = self.raw[self.index]
        self.index += 1
        where = span_of(token, self.words.file).to(span_of(sign, self.words.file))
        shown = f"={sign}"
        kind, text, help, safe = self._turned(shown)
        whole = _as(kind, text, token)
        place = where
        if text == ":":
            name = self.words.tokens[-1]
            place = Span(where.file, name.end_line, name.end_column, where.end_line, where.end_column)
        elif text.isalpha():
            before = "" if self.text[token.start_pos - 1].isspace() else " "
            behind = "" if self.text[sign.end_pos : sign.end_pos + 1].isspace() else " "
            fix_text = before + text + behind
            self.report(where, shown, help, Fix.replace(place, fix_text, f"write `{text}`", safe=safe))
            self.words.tokens.append(whole)
            return
        self.report(where, shown, help, Fix.replace(place, text, safe=safe))
        self.words.tokens.append(whole)

    def _turned(self, shown: str) -> tuple[str, str, str, bool]:
        """Return kind and text of the word meant by `=<` or `=>`, the help, and whether it is certain."""
        following = self.ahead()
        number = following is not None and following.type == "QUANTITY"
        if shown == "=<":
            return "CMP", "<=", "write `<=`", True
        if self.before() == "NAME" and self.before(2) in ("LPAR", "COMMA") and self.in_brackets():
            return "COLON", ":", "a named argument takes `:`", True
        if number and self.before() == "QUANTITY" and self.in_brackets():
            return "ARROW", "->", "write `->`", True
        if number or self.before() == "QUANTITY":
            return "CMP", ">=", "write `>=`", True
        return "IMPLIES", "implies", "write `implies` for a consequence, or `>=` for at least", False

    def in_brackets(self) -> bool:
        """True where a `(` of this line is open."""
        depth, line = 0, self.words.tokens[-1].line if self.words.tokens else None
        for token in reversed(self.words.tokens):
            if token.line != line:
                return False
            depth += (token.type == "LPAR") - (token.type == "RPAR")
            if depth > 0:
                return True
        return False

    def block_comment(self, token: Token) -> None:
        """Report `/* … */` and skip what it holds."""
        start, file = token.start_pos, self.words.file
        stop = self.text.find("*/", start + 2)
        closed = stop >= 0
        end = stop + 2 if closed else len(self.text)
        where = Span(file, token.line, token.column, token.line, token.column + 2)
        rest = self.text[end:].partition("\n")[0]
        fixes = [] if rest.strip() or not closed else [_as_line_comments(self.text, start, end, file, where)]
        self.report(where, "/*", "a comment begins with `#` and ends with its line", *fixes)
        while self.index < len(self.raw) and self.raw[self.index].start_pos < end:
            self.index += 1
        last = where.line + self.text.count("\n", start, end)
        self.words.mended.update(range(where.line, last + 1))


def _as(kind: str, text: str, token: Token) -> Token:
    """Return a token of another kind and text at the place of `token`."""
    return token.like(kind, text)


def _instead(where: Span, run: str, meant: str | None) -> list[Fix]:
    if meant is None or len(run) > 1:
        return []
    return [Fix.replace(where, meant, safe=meant == " ")]


def _apart(spelling: str, token: Token, source: str) -> str:
    """Return a word with the blanks that separate it from the text around `token`."""
    if not spelling.isalpha():
        return spelling
    start, stop = token.start_pos, token.end_pos
    before = " " if start and not source[start - 1].isspace() and source[start - 1] not in "([{" else ""
    behind = " " if stop < len(source) and not source[stop].isspace() else ""
    return before + spelling + behind


def _as_line_comments(text: str, start: int, end: int, file: str, where: Span) -> Fix:
    """Return the fix that writes `#` before each line of the block comment from `start` to `end`."""
    body = text[start + 2 : end - 2].rstrip()
    lines = [line.strip().removeprefix("*").strip() for line in body.split("\n")]
    indent = " " * (where.column - 1)
    written = f"\n{indent}".join(f"# {line}".rstrip() for line in lines)
    last = where.line + text.count("\n", start, end)
    column = end - (text.rfind("\n", 0, end) + 1) + 1
    return Fix("write `#`", (Edit(Span(file, where.line, where.column, last, column), written),))
