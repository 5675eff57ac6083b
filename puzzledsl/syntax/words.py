"""From raw tokens to words: report lexical mistakes, repair those with a clear intention, drop the others and plain comments."""

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
LOOKALIKES = {**dict.fromkeys("“”‘’'`", '"'), "–": "-", "&": "and", "^": "*"}


def read_words(tokens: list[Token], text: str, file: str, sink: Sink) -> Words:
    """Return a file's words, and apart its doc comments; report lexical mistakes, and repair them if the intention is clear."""
    reader = _Reader([t for t in tokens if t.type != "COMMENT"], text, Words([], [], file), sink)
    reader.run()
    return reader.words


@dataclass(slots=True)
class _Reader:
    raw: list[Token]
    text: str
    words: Words
    sink: Sink
    index: int = 0

    def run(self) -> None:
        # characters of a line with a torn string may belong to the string
        torn = {t.line for t in self.raw if t.type == "UNTERMINATED"}
        while self.index < len(self.raw):
            token = self.raw[self.index]
            self.index += 1
            match token.type:
                case "DOC":
                    if self.index == 1 or self.raw[self.index - 2].type == "_NL":
                        self.words.docs.append(token)  # behind code it is a comment
                case "UNKNOWN":
                    self.unknown(token, torn)
                case "UNTERMINATED":
                    self.sink.add(errors.UnterminatedString(self.at(token)))
                    self.words.tainted.add(token.line)
                    self.words.tokens.append(token.like("STRING", token + '"'))
                case "FOREIGN":
                    self.foreign(token)
                case "SLASH" if self.touches("STAR"):
                    self.block_comment(token)
                case "EQUAL" if self.touches("CMP") and self.raw[self.index] in ("<", ">"):
                    self.turned_comparison(token)
                case _:
                    self.words.tokens.append(token)

    def at(self, first: Token, last: Token | None = None) -> Span:
        """Return the span from the first token to the last; of the first alone without `last`."""
        where = span_of(first, self.words.file)
        return where if last is None else where.to(span_of(last, self.words.file))

    def ahead(self) -> Token | None:
        return self.raw[self.index] if self.index < len(self.raw) else None

    def touches(self, kind: str) -> bool:
        """Return True if a token of a kind stands right behind the one that was read last, without a blank."""
        following, last = self.ahead(), self.raw[self.index - 1]
        return following is not None and following.type == kind and following.start_pos == last.end_pos

    def report(self, where: Span, shown: str, wanted: str, *fixes: Fix) -> None:
        """Report a spelling of another language. Its line counts as mended: unexpected tokens there are not reported."""
        self.sink.add(errors.ForeignSpelling(where, text=shown, wanted=wanted, fixes=fixes))
        self.words.mended.add(where.line)

    def apart(self, spelling: str, start: int, stop: int) -> str:
        """Return a spelling for the place `start` to `stop` of the text, with blanks around it if it is a word and needs them."""
        if not spelling.isalpha():
            return spelling
        before, behind = self.text[start - 1 : start], self.text[stop : stop + 1]
        spelling += " " if behind and not behind.isspace() else ""
        return f" {spelling}" if before and not before.isspace() and before not in "([{" else spelling

    def unknown(self, first: Token, torn: set[int]) -> None:
        """Report a run of unknown characters, unless a line in `torn` has them; read `%` as `percent` does."""
        while self.touches("UNKNOWN"):
            self.index += 1
        last = self.raw[self.index - 1]
        if first.line in torn:
            return
        run = self.text[first.start_pos : last.end_pos]
        if run == "%" and self.percent(first):
            return
        shown = run if run.isprintable() else run.encode("unicode_escape").decode()
        shown = shown if len(shown) <= 20 else shown[:19] + "…"
        where, plural = self.at(first, last), "s" * (len(run) > 1)
        meant = " " if run.isspace() else LOOKALIKES.get(run[0])
        help = "write a plain space" if meant == " " else f"did you mean `{meant}`?" if meant else ""
        help = "`if` chooses between two values: `if CONDITION then A else B`" if run == "?" else help
        certain = meant == " "
        fixes = [Fix.replace(where, meant, safe=certain)] if meant and (certain or not plural) else []
        self.sink.add(errors.UnknownCharacter(where, text=shown, plural=plural, help=help, fixes=fixes))
        self.words.tainted.add(where.line)

    def percent(self, token: Token) -> bool:
        """Read `i % 4` as `i mod 4`, and `95 %` as `95%`, and report them; return False if the sign can be neither."""
        before, following = self.words.tokens[-1] if self.words.tokens else None, self.ahead()
        if before is None or before.line != token.line:
            return False
        where = self.at(token)
        if following is not None and following.type in ("NAME", "QUANTITY", "LPAR"):
            if before.type not in ("NAME", "QUANTITY", "RPAR", "RSQB"):
                return False
            fix = Fix.replace(where, self.apart("mod", token.start_pos, token.end_pos), "write `mod`")
            wanted = f"the remainder is `mod`: write `{before} mod {following}`"
            self.report(where, f"{before} % {following}", wanted, fix)
            self.words.tokens.append(token.like("MOD", "mod"))
            return True
        if before.type != "QUANTITY" or not before[-1].isdigit():
            return False
        meant = f"{before}%"
        fix = Fix.replace(self.at(before, token), meant)
        self.report(where, f"{before} %", f"no blank before a unit: write `{meant}`", fix)
        self.words.tokens[-1] = before.like("QUANTITY", meant)
        return True

    def foreign(self, token: Token) -> None:
        text, where = str(token), self.at(token)
        if text.startswith("//"):
            slashes = Span(where.file, where.line, where.column, where.line, where.column + 2)
            self.report(where, "//", "a comment begins with `#`", Fix.replace(slashes, "#"))
        elif text[0] in "'“”":
            plain = '"' + re.sub(r'["\\]', r"\\\g<0>", text[1:-1]) + '"'
            help = 'strings stand in plain double quotes: `"`'
            self.report(where, text[0], help, Fix.replace(where, plain))
            self.words.tokens.append(token.like("STRING", plain))
        else:
            kind, spelling, wanted = FOREIGN[text]
            following = self.ahead()
            ends = kind == "COMMA" and (following is None or following.type == "_NL")
            meant = "" if ends else self.apart(spelling, token.start_pos, token.end_pos)
            self.report(where, text, wanted, Fix.replace(where, meant))
            if not ends:
                self.words.tokens.append(token.like(kind, spelling))

    def turned_comparison(self, token: Token) -> None:
        """Report `=<`, read as `<=`, and `=>`, read as `>=`, `implies`, `->` or `:` by its neighbours."""
        sign = self.raw[self.index]
        self.index += 1
        before, following = [t.type for t in self.words.tokens[-2:]], self.ahead()
        number = following is not None and following.type == "QUANTITY"
        kind, text, help = "CMP", ">=", "write `>=`"
        last = before[-1] if before else "_NL"
        if sign == "<":
            text, help = "<=", "write `<=`"
        elif self.in_brackets() and before in (["LPAR", "NAME"], ["COMMA", "NAME"], ["_NL", "NAME"]):
            kind, text, help = "COLON", ":", "a named argument takes `:`"
        elif number and last == "QUANTITY" and self.in_brackets():
            kind, text, help = "ARROW", "->", "write `->`"
        elif not number and last != "QUANTITY":
            kind, text = "IMPLIES", "implies"
            help = "write `implies` for a consequence, or `>=` for at least"
        where = place = self.at(token, sign)
        if kind == "COLON":
            name = self.words.tokens[-1]
            place = Span(where.file, name.end_line, name.end_column, where.end_line, where.end_column)
        written = self.apart(text, token.start_pos, sign.end_pos)
        fix = Fix.replace(place, written, f"write `{text}`", safe=kind != "IMPLIES")
        self.report(where, f"={sign}", help, fix)
        self.words.tokens.append(token.like(kind, text))

    def in_brackets(self) -> bool:
        """Return True if a `(` is open in this line, or in lines before it that each end in `(` or a comma."""
        depth, line = 0, self.words.tokens[-1].line if self.words.tokens else None
        for token in reversed(self.words.tokens):
            if token.type == "_NL":
                continue
            if token.line != line and token.type not in ("COMMA", "LPAR"):
                return False
            line = token.line
            depth += (token.type == "LPAR") - (token.type == "RPAR")
            if depth > 0:
                return True
        return False

    def block_comment(self, token: Token) -> None:
        """Report `/* … */` and skip its content. The fix writes `#` before each line; none if no `*/` or code follows."""
        start, text = token.start_pos, self.text
        stop = text.find("*/", start + 2)
        end = stop + 2 if stop >= 0 else len(text)
        where = Span(self.words.file, token.line, token.column, token.line, token.column + 2)
        last = where.line + text.count("\n", start, end)
        fixes = []
        if stop >= 0 and not text[end:].partition("\n")[0].strip():
            body = text[start + 2 : stop].rstrip().split("\n")
            lines = [f"# {line.strip().removeprefix('*').strip()}".rstrip() for line in body]
            whole = Span(where.file, where.line, where.column, last, end - text.rfind("\n", 0, end))
            indent = " " * (where.column - 1)
            fixes = [Fix("write `#`", (Edit(whole, f"\n{indent}".join(lines)),))]
        self.report(where, "/*", "a comment begins with `#` and ends with its line", *fixes)
        while self.index < len(self.raw) and self.raw[self.index].start_pos < end:
            self.index += 1
        self.words.mended.update(range(where.line, last + 1))
