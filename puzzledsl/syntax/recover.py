"""Parsing with error recovery, as in yacc: run the LALR tables over the laid-out tokens and report all mistakes in one run.

At an unexpected token, pop to a state that accepts the ERROR terminal, skip to a token that can follow it, feed ERROR
and continue. The grammar accepts ERROR as a value, as the tail of a declaration's head, as a statement and as an
item. They are tried in this order: losing less text causes fewer follow-up errors. Some mistakes are repaired instead: a slip of
one token, if the rest of the statement then parses, a misspelt keyword, a missing `{` or `}`, and a superfluous `}`.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import product

from puzzledsl.base.diagnostics import Args, Diagnostic, Fix, Label, Sink
from puzzledsl.base.phrases import closest
from puzzledsl.language.words import DECLARATIONS, STATEMENT_KEYWORDS, TOP_KEYWORDS
from puzzledsl.syntax import errors
from puzzledsl.syntax.messages import Place, colon_body, found, unexpected
from puzzledsl.syntax.newlines import starts_declaration
from puzzledsl.syntax.tokens import Branch, Machine, Token, Words, after, span_of, virtual

MAX_AHEAD = 60
"""Number of following tokens of the statement that a repair is checked against; later tokens are not checked."""
MAX_MISTAKES = 100
"""After this many mistakes the rest of the file is skipped: it is probably not a `.pzl` file."""
_BODY_ONLY = {"REQUIRE", "PREFER", "MINIMIZE", "MAXIMIZE", "SOLUTIONS", "FOR"}
_BEFORE_STATEMENTS = frozenset(("_NL", "COMMA", "LBRACE", "RBRACE", "ERROR"))
_ENDS = {"_NL", "LBRACE", "RBRACE"}
_SETS = {"DOT", "LSQB", "EQUAL", "EXTEND", "REMOVE", "KEEP"}
_SOFT_SYNC = {"COMMA", "LBRACE", "BECAUSE", "WHERE"}
_BRACKETS = {"LPAR": 1, "LSQB": 1, "RPAR": -1, "RSQB": -1}


def parse_tokens(tokens: list[Token], words: Words, sink: Sink) -> Branch:
    """Return the parse tree of the tokens of `lay_out`, with `bad` nodes for unreadable parts. Mistakes go to `sink`."""
    return _Driver(tokens, words, sink).run()


@dataclass(slots=True)
class _Driver:
    tokens: list[Token]
    words: Words
    sink: Sink
    machine: Machine = field(default_factory=Machine)
    index: int = 0
    brackets: int = 0
    statement: int = 0  # index of the first token of this statement
    braces: list[Token] = field(default_factory=list)
    """Open braces; one that recovery inserted has no width."""
    pairs: list[tuple[Token, Token]] = field(default_factory=list)
    mistakes: int = 0
    reported_at: int = 0  # the line of the last mistake
    last: Token | None = None  # the token taken last

    def run(self) -> Branch:
        while self.index < len(self.tokens):
            token = self.tokens[self.index]
            begins = self.braces and token.column == 1 and starts_declaration(self.tokens, self.index)
            if begins and self.machine.accepts("RBRACE"):
                self.close_braces()
            token = self.tokens[self.index] = self.mended(token)
            if token.type == "RBRACE" and not self.braces:
                where = span_of(token, self.words.file)
                fixes = [Fix.replace(where, "", safe=False)]
                self.report(errors.StrayCloser(where, opener="{", closer="}", fixes=fixes))
                self.index += 1
            elif not self.taken(token):
                self.recover(token)
            if self.mistakes >= MAX_MISTAKES and self.machine.accepts("RBRACE" if self.braces else "$END"):
                break
        if self.braces:
            self.close_braces()
        return self.machine.finish()

    def taken(self, token: Token) -> bool:
        """Consume the next token, and those behind it in its part of the statement. Return False if it is unacceptable."""
        ends = token.type in _BEFORE_STATEMENTS and not self.brackets
        end = self.machine.take(self.tokens, self.index, None if ends else _BEFORE_STATEMENTS)
        if end == self.index:
            return False
        self.count(token)
        for part in self.tokens[self.index + 1 : end]:
            self.brackets += _BRACKETS.get(part.type, 0)
        self.last, self.index = self.tokens[end - 1], end
        return True

    def feed(self, token: Token) -> None:
        """Feed an acceptable token to the machine and count open braces and brackets."""
        self.machine.take([token])
        self.count(token)

    def count(self, token: Token) -> None:
        self.last = token
        self.brackets += _BRACKETS.get(token.type, 0)
        if token.type == "LBRACE":
            self.braces.append(token)
        elif token.type == "RBRACE":
            self.pairs.append((self.braces.pop(), token))
        if token.type in _ENDS:
            self.statement = self.index + 1

    def token_before(self) -> Token | None:
        """Return the last token before this one that is not a newline."""
        places = range(self.index - 1, -1, -1)
        return next((self.tokens[at] for at in places if self.tokens[at].type != "_NL"), None)

    def token_behind(self) -> Token | None:
        return self.tokens[self.index + 1] if self.index + 1 < len(self.tokens) else None

    def report(self, error: Diagnostic) -> None:
        """Record a mistake, unless it follows from a mistake that is already reported in the lines of this statement."""
        last = len(self.tokens) - 1
        last = next((i for i in range(self.index, last) if self.tokens[i].type in _ENDS), last)
        lines = range(self.tokens[min(self.statement, last)].line, self.tokens[last].line + 1)
        at = error.span.line if error.span else 0
        if at in self.words.mended:  # may only follow from a foreign spelling
            follows = error.kind == errors.UnexpectedToken
        else:  # or from an earlier cut that removed a brace
            follows = error.kind == errors.MissingBrace and at == self.reported_at
        if follows or not self.words.tainted.isdisjoint(lines):
            return
        self.sink.add(error)
        self.mistakes += 1
        for edit in (edit for fix in error.fixes for edit in fix.edits):
            if edit.span.line < edit.span.end_line:  # what a fix writes anew is not read as it stands
                self.words.tainted.update(range(edit.span.line, edit.span.end_line + 1))
        self.reported_at = at

    def mended(self, token: Token) -> Token:
        """Return the token that is meant: a misspelt keyword is reported and corrected, a missing `{` reported and inserted."""
        if token.type == "_NL":  # a `{` is missing between `search s of w` and indented statements below
            before, below = self.token_before(), self.token_behind()
            if before is not None and below is not None and self.begins_statement(self.index + 1):
                is_inner = below.column > self.tokens[self.statement].column
                if is_inner and self.machine.accepts("LBRACE"):
                    where = after(before, self.words.file)
                    self.report(errors.MissingBrace(where, fixes=[Fix.insert(where, " {")]))
                    self.feed(virtual("LBRACE", "{", before))
        elif self.brackets or (self.last is not None and self.last.type not in _BEFORE_STATEMENTS):
            return token
        elif self.machine.accepts("USE"):
            return self.mended_item(token)
        elif token.type == "NAME" and self.machine.accepts("REQUIRE"):
            return self.mended_statement(token)
        return token

    def begins_statement(self, index: int) -> bool:
        """Return True if the token at `index` begins a statement (keyword or assignment) that only a body can contain."""
        token = self.tokens[index]
        following = self.tokens[index + 1].type if index + 1 < len(self.tokens) else ""
        if token.type in ("LET", "ASSERT"):
            return token.column > 1
        return token.type in _BODY_ONLY or (token.type == "NAME" and following in _SETS)

    def mended_item(self, token: Token) -> Token:
        following = self.token_behind()
        unnamed = token in DECLARATIONS and token.column == 1  # `space = …` lacks its name
        if token.type not in ("LET", "ASSERT") and self.begins_statement(self.index) and not unnamed:
            self.reopen_body(token)
            return token
        if token.type != "NAME" or following is None or token in DECLARATIONS:
            return token
        declares = following.type == "NAME"
        if not declares and following.type not in ("STRING", "LPAR", "QUANTITY", "NOT"):
            return token
        wanted = closest(token, (*DECLARATIONS, *TOP_KEYWORDS) if declares else TOP_KEYWORDS)
        if declares or wanted:
            text = "declarations: " + " ".join((*DECLARATIONS, *TOP_KEYWORDS))
            where = span_of(token, self.words.file)
            self.report(errors.UnknownKind(where, got=str(token), near=wanted, help=text))
        if wanted is None:
            return token
        return token.like(wanted.upper() if wanted in TOP_KEYWORDS else "NAME", wanted)

    def reopen_body(self, token: Token) -> None:
        """Report a statement outside any body, and feed ERROR and `{`, so that parsing continues as in a body."""
        before = self.token_before()
        if before is not None and before.type == "RBRACE" and self.pairs:
            label = Label(span_of(token, self.words.file), "this is then outside")
            error: Diagnostic = errors.BodyEndsEarly(span_of(before, self.words.file), secondary=[label])
        else:
            text = f"write `let {token} = …` to name a value" if token.type == "NAME" else ""
            error = errors.OutsideBody(span_of(token, self.words.file), found=found(token), help=text)
        self.report(error)
        self.machine.take([virtual("ERROR", "", before or token)])
        self.feed(virtual("LBRACE", "{", before or token))

    def mended_statement(self, token: Token) -> Token:
        following = self.token_behind()
        if following is None or following.type in _SETS | {"LBRACE", "COMMA", "_NL", "RBRACE"}:
            return token
        wanted = None if token in DECLARATIONS else closest(token, STATEMENT_KEYWORDS)
        if wanted is None:
            return token
        self.report(errors.UnknownStatement(span_of(token, self.words.file), got=str(token), near=wanted))
        return token.like(wanted.upper(), wanted)

    def close_braces(self) -> None:
        """Close every open body, before a declaration at the left margin or at the end of the file."""
        before = self.token_before() or self.tokens[0]
        written = [brace for brace in self.braces if brace.start_pos < brace.end_pos]
        if written:
            opener, last = self.forgotten(written[-1], before)
            where = after(last, self.words.file)
            label = Label(span_of(opener, self.words.file), "opened here")
            if opener.line not in self.words.tainted:
                fix = Fix.insert(where, "\n}" if last.line != opener.line else " }", safe=False)
                signs: Args = {"opener": "{", "closer": "}", "secondary": [label]}
                self.sink.add(errors.Unclosed(where, "expected `}`", fixes=[fix], **signs))
                self.mistakes += 1
        while self.braces:
            self.feed(virtual("RBRACE", "}", before))
        self.machine.take([virtual("_NL", "\n", before)])
        self.pairs.clear()

    def forgotten(self, opener: Token, last: Token) -> tuple[Token, Token]:
        """Return the `{` that was left unclosed, and the token that its `}` should follow, judged by the indentation.

        If a `}` is indented less than its `{`, that `{` should have been closed before: where a line is indented no more than it.
        """
        written = [token for token in self.tokens if token.type != "_NL"]
        margins = {token.line: token.column for token in reversed(written)}
        for inner, closer in self.pairs:
            if inner.start_pos > opener.start_pos and margins[closer.line] < margins[inner.line]:
                opener = inner
                break
        before = opener
        for token in (token for token in written if token.start_pos > opener.start_pos):
            if token.line != before.line and margins[token.line] <= margins[opener.line]:
                return opener, last if before is opener else before
            before = token
        return opener, last

    def recover(self, token: Token) -> None:
        """Report an unexpected token; repair the mistake, or replace the part of the text that it is in by ERROR."""
        if self.last is not None and self.last.type == "RBRACE" and self.machine.accepts("_NL"):
            early = not self.braces and (token.type == "COMMA" or self.begins_statement(self.index))
            if not early:  # text behind a `}` on its line begins a new statement
                self.report(self.mistake(token))
            self.feed(virtual("_NL", "\n", self.last))
            self.statement = self.index
            if early:
                self.reopen_body(token)
            return
        if body := colon_body(self.tokens, self.index, self.words.file):
            told, stop = body
            self.sink.drop(range(token.line, self.tokens[stop - 1].end_line + 1))
            self.report(told)
            self.give_up(token, [stop])
            return
        error = self.mistake(token)
        self.report(error)
        if error.kind == errors.DeclarationInside or not self.repaired():
            self.give_up(token, self.stops())

    def give_up(self, token: Token, stops: Iterable[int]) -> None:
        """Replace the smallest possible part by ERROR, and continue at the first token index in `stops` that can follow."""
        for depth, at in product(range(self.machine.depth, 0, -1), stops):
            kind = "_NL" if starts_declaration(self.tokens, at) else self.tokens[at].type
            if self.machine.accepts("ERROR", kind, depth=depth):
                self.machine.pop_to(depth)
                self.machine.take([token.like("ERROR", "")])
                self.brackets, self.index = 0, at
                if kind != self.tokens[at].type:
                    self.feed(virtual("_NL", "\n", self.tokens[at - 1]))
                return
        raise AssertionError("the grammar takes ERROR for every item and statement")

    def rest(self) -> list[str]:
        """Return the kinds of the tokens from this one to the end of the statement, at most MAX_AHEAD."""
        found: list[str] = []
        for each in self.tokens[self.index : self.index + MAX_AHEAD]:
            found.append(each.type)
            if each.type == "_NL" or (each.type in _ENDS and len(found) > 1):
                break
        return found

    def repaired(self) -> bool:
        """Repair a one-token slip if that makes the rest of the statement readable; return True if it did."""
        rest, last, depth = self.rest(), self.last, self.machine.depth
        can_undo = last is not None and last.type not in ("_NL", "RBRACE", "ERROR") and depth >= 2
        for undo, insert, skip in _ways(self.tokens, self.index, last or self.tokens[self.index]):
            kinds = [*([] if insert is None else [insert.type]), *rest[skip:]]
            possible = can_undo if undo else skip < len(rest)
            if self.mistakes < MAX_MISTAKES and possible and self.machine.accepts(*kinds, depth=depth - undo):
                if undo and last is not None:
                    self.machine.pop_to(depth - 1)
                    self.brackets -= _BRACKETS.get(last.type, 0)
                    if last.type == "LBRACE":
                        self.braces.pop()
                    self.last = None
                self.index += skip
                if insert is not None:
                    self.feed(insert)
                return True
        return False

    def mistake(self, token: Token) -> Diagnostic:
        """Return the diagnostic for the current token, which is unacceptable."""
        if self.braces and token.type in ("USE", "PARAM", "FN"):
            return errors.DeclarationInside(span_of(token, self.words.file), kind=str(token))
        first, kind = self.tokens[self.index - 2 : self.index] if self.index > 1 else (token, token)
        begins = self.braces and kind in DECLARATIONS and first.type in ("_NL", "COMMA", "LBRACE")
        if begins and token.type == "NAME":
            return errors.DeclarationInside(span_of(kind, self.words.file), kind=str(kind))
        front = self.tokens[max(self.statement - MAX_AHEAD, 0) : self.index]
        behind = self.tokens[self.index + 1 : self.index + 1 + MAX_AHEAD]
        before, expected = self.token_before(), self.machine.expected()
        return unexpected(Place(token, before, front, behind, expected, self.words.file))

    def stops(self) -> Iterator[int]:
        """Yield indices of tokens to resume at: kinds in _SOFT_SYNC outside brackets, last the end of the statement."""
        depth, brackets = 0, self.brackets
        for at in range(self.index, len(self.tokens)):
            kind = self.tokens[at].type
            if at > self.index and starts_declaration(self.tokens, at):
                yield at
                return
            if depth == 0 and brackets <= 0 and kind in _SOFT_SYNC:
                yield at
            brackets += _BRACKETS.get(kind, 0)
            if depth == 0 and (kind == "_NL" or (kind == "RBRACE" and self.braces)):
                yield at
                return
            depth += (kind == "LBRACE") - (kind == "RBRACE" and depth > 0)
        yield len(self.tokens) - 1


def _ways(tokens: list[Token], index: int, last: Token) -> Iterator[tuple[int, Token | None, int]]:
    """Yield repairs, the likeliest first: number of tokens to undo, token to insert (or None), number of tokens to skip."""
    token, name = tokens[index], virtual("NAME", "", last)
    if last is not token and last == token:
        yield 0, None, 1
    if index > 1 and tokens[index - 2] == last:
        yield 1, None, 0
    word = "on" if index > 1 and tokens[index - 2] == "scenario" else "of"
    for kind, text in (("EQUAL", "="), ("COMMA", ","), ("COLON", ":"), (word.upper(), word)):
        yield 0, virtual(kind, text, last), 0
    yield 0, token.like(*(("OF", "of") if token.type == "NAME" else ("EQUAL", "="))), 1
    if token.type == "_NL":
        yield 0, name, 0
    yield 1, None, 0
    yield 0, name, 0
    ends = token.type == "RBRACE" and tokens[index + 1].type in ("_NL", "COMMA", "RBRACE")
    if token.type != "_NL" and not ends:
        yield 0, None, 1
