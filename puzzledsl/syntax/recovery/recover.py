"""Parsing with error recovery, as in yacc: run the LALR tables over the laid-out tokens and report all mistakes in one run.

At an unexpected token, pop to a state that accepts the ERROR terminal, skip to a token that can follow it, feed ERROR
and continue. The grammar accepts ERROR as a value, as the tail of a declaration's head, as a statement and as an
item. They are tried in this order: losing less text causes fewer follow-up errors. Three mistakes are repaired
instead: a misspelt keyword, a missing `{` or `}`, and a superfluous `}`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from puzzledsl.base.diagnostics import Diagnostic, Fix, Label, Sink
from puzzledsl.base.suggest import closest
from puzzledsl.language.words import DECLARATIONS, STATEMENT_KEYWORDS, TOP_KEYWORDS
from puzzledsl.syntax import errors
from puzzledsl.syntax.machine import Branch, Machine
from puzzledsl.syntax.newlines import starts_declaration
from puzzledsl.syntax.recovery.colon_bodies import colon_body
from puzzledsl.syntax.recovery.expected import found, unexpected
from puzzledsl.syntax.recovery.habits import Place, second_goal
from puzzledsl.syntax.recovery.repair import MAX_AHEAD, repair
from puzzledsl.syntax.tokens import Token, Words, after, span_of, virtual

MAX_MISTAKES = 100
"""After this many mistakes the rest of the file is skipped: it is probably not a `.pzl` file."""

_BODY_ONLY = {"REQUIRE", "PREFER", "MINIMIZE", "MAXIMIZE", "SOLUTIONS", "FOR"}
_BEFORE_STATEMENTS = {"_NL", "COMMA", "LBRACE", "RBRACE", "ERROR"}
_SETS = {"DOT", "LSQB", "EQUAL", "EXTEND", "REMOVE", "KEEP"}
_SOFT_SYNC = {"COMMA", "LBRACE", "BECAUSE", "WHERE"}


def parse_tokens(tokens: list[Token], words: Words, sink: Sink) -> Branch:
    """Return the syntax tree of laid-out tokens, with `bad` nodes for unreadable parts. Never raises."""
    return _Driver(tokens, words, sink).run()


@dataclass(slots=True)
class _Brace:
    """An open `{`. One that recovery inserted is closed silently."""

    token: Token
    written: bool


@dataclass(slots=True)
class _Driver:
    tokens: list[Token]
    words: Words
    sink: Sink
    machine: Machine = field(default_factory=Machine)
    index: int = 0
    brackets: int = 0
    statement: int = 0  # index of the first token of this statement
    braces: list[_Brace] = field(default_factory=list)
    pairs: list[tuple[Token, Token]] = field(default_factory=list)
    mistakes: int = 0
    reported_at: int = 0  # the line of the last mistake
    last: Token | None = None  # the token taken last
    margins: dict[int, int] = field(default_factory=dict)  # line -> the column of its first token

    def __post_init__(self) -> None:
        for token in self.tokens:
            if token.type != "_NL":
                self.margins.setdefault(token.line, token.column)

    # ------------------------------------------------------------ the loop

    def run(self) -> Branch:
        while self.index < len(self.tokens):
            token = self.tokens[self.index]
            if self.braces and starts_declaration(self.tokens, self.index) and self.machine.accepts("RBRACE"):
                self.close_braces(token)
            token = self.mended(token)
            if token.type == "RBRACE" and not self.braces:
                where = span_of(token, self.words.file)
                fixes = [Fix.replace(where, "", safe=False)]
                self.report(errors.StrayCloser(where, opener="{", closer="}", fixes=fixes))
                self.index += 1
            elif self.machine.accepts(token.type):
                self.feed(token)
                self.index += 1
            else:
                self.recover(token)
            if self.mistakes >= MAX_MISTAKES and self.machine.accepts("RBRACE" if self.braces else "$END"):
                break
        if self.braces:
            self.close_braces(None)
        return self.machine.finish()

    def feed(self, token: Token) -> None:
        """Feed an acceptable token to the machine and count open braces and brackets."""
        self.machine.feed(token)
        self.last = token
        if token.type in ("LPAR", "LSQB"):
            self.brackets += 1
        elif token.type in ("RPAR", "RSQB"):
            self.brackets -= 1
        elif token.type == "LBRACE":
            self.braces.append(_Brace(token, written=True))
        elif token.type == "RBRACE":
            self.pairs.append((self.braces.pop().token, token))
        if token.type in ("_NL", "LBRACE", "RBRACE"):
            self.statement = self.index + 1

    def uncount(self, token: Token) -> None:
        """Undo what `feed` counted for a token that the machine has popped."""
        if token.type in ("LPAR", "LSQB"):
            self.brackets -= 1
        elif token.type in ("RPAR", "RSQB"):
            self.brackets += 1
        elif token.type == "LBRACE":
            self.braces.pop()

    def before(self) -> Token | None:
        """Return the last token before this one that is not a newline."""
        for i in range(self.index - 1, -1, -1):
            if self.tokens[i].type != "_NL":
                return self.tokens[i]
        return None

    def next_token(self, offset: int = 1) -> Token | None:
        at = self.index + offset
        return self.tokens[at] if at < len(self.tokens) else None

    def report(self, error: Diagnostic) -> None:
        """Record a mistake, unless a bad token or bracket of this statement is already reported."""
        end = self.index
        while end + 1 < len(self.tokens) and self.tokens[end].type not in ("_NL", "LBRACE", "RBRACE"):
            end += 1
        last = self.tokens[min(end, len(self.tokens) - 1)].line
        first = self.tokens[min(self.statement, end, len(self.tokens) - 1)].line
        if self.words.tainted.isdisjoint(range(first, last + 1)) and not self.follows(error):
            self.sink.add(error)
            self.mistakes += 1
            for edit in (edit for fix in error.fixes for edit in fix.edits):
                if edit.span.line < edit.span.end_line:  # what a fix writes anew is not read as it stands
                    self.words.tainted.update(range(edit.span.line, edit.span.end_line + 1))
            self.reported_at = error.span.line if error.span else 0

    def follows(self, error: Diagnostic) -> bool:
        """Return True if a mistake may only follow from a foreign spelling or from an earlier cut that removed a brace."""
        if error.span is not None and error.span.line in self.words.mended:
            return isinstance(error, errors.UnexpectedToken)
        return (
            isinstance(error, errors.MissingBrace)
            and error.span is not None
            and error.span.line == self.reported_at
        )

    # ------------------------------------------------------------ mending

    def mended(self, token: Token) -> Token:
        """Return the intended token, after inserting a missing brace if there is one."""
        if token.type == "_NL":
            self.insert_missing_brace()
        elif self.brackets or (self.last is not None and self.last.type not in _BEFORE_STATEMENTS):
            return token
        elif self.machine.accepts("USE"):
            return self.mended_item(token)
        elif token.type == "NAME" and self.machine.accepts("REQUIRE"):
            return self.mended_statement(token)
        return token

    def insert_missing_brace(self) -> None:
        """Insert the missing `{` between `search s of w` and the indented statements below it."""
        before, following = self.before(), self.next_token()
        if before is None or following is None or not self.begins_statement(self.index + 1):
            return
        margin = self.tokens[self.statement].column
        if following.column > margin and self.machine.accepts("LBRACE"):
            where = after(before, self.words.file)
            self.report(errors.MissingBrace(where, fixes=[Fix.insert(where, " {")]))
            self.open_virtual(before)

    def open_virtual(self, near: Token) -> None:
        self.feed(virtual("LBRACE", "{", near))
        self.braces[-1].written = False

    def begins_statement(self, index: int) -> bool:
        """Return True for a keyword or an assignment that only a body can contain."""
        token = self.tokens[index]
        following = self.tokens[index + 1].type if index + 1 < len(self.tokens) else ""
        indented = token.column > 1
        return (
            token.type in _BODY_ONLY
            or (token.type in ("LET", "ASSERT") and indented)
            or (token.type == "NAME" and following in _SETS)
        )

    def mended_item(self, token: Token) -> Token:
        following = self.next_token()
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
        """Handle a statement at the top level: continue as in a body whose `{` the file lacks."""
        before = self.before()
        if before is not None and before.type == "RBRACE" and self.pairs:
            label = Label(span_of(token, self.words.file), "this is then outside")
            error: Diagnostic = errors.BodyEndsEarly(span_of(before, self.words.file), secondary=[label])
        else:
            text = f"write `let {token} = …` to name a value" if token.type == "NAME" else ""
            error = errors.OutsideBody(span_of(token, self.words.file), found=found(token), help=text)
        self.report(error)
        self.machine.feed(virtual("ERROR", "", before or token))
        self.open_virtual(before or token)

    def mended_statement(self, token: Token) -> Token:
        following = self.next_token()
        if (
            following is None
            or following.type in _SETS | {"LBRACE", "COMMA", "_NL", "RBRACE"}
            or token in DECLARATIONS
        ):
            return token
        wanted = closest(token, STATEMENT_KEYWORDS)
        if wanted is None:
            return token
        self.report(errors.UnknownStatement(span_of(token, self.words.file), got=str(token), near=wanted))
        return token.like(wanted.upper(), wanted)

    # ------------------------------------------------------------ braces

    def close_braces(self, declaration: Token | None) -> None:
        """Close every open body, before a declaration at the left margin or at the end of the file."""
        before = self.before() or self.tokens[0]
        written = [b.token for b in self.braces if b.written]
        if written:
            opener, last = self.forgotten(written[-1], before)
            where = after(last, self.words.file)
            label = Label(span_of(opener, self.words.file), "opened here")
            if opener.line not in self.words.tainted:
                fix = Fix.insert(where, "\n}" if last.line != opener.line else " }", safe=False)
                error = errors.Unclosed(
                    where, "expected `}`", opener="{", closer="}", secondary=[label], fixes=[fix]
                )
                self.sink.add(error)
                self.mistakes += 1
        while self.braces:
            self.feed(virtual("RBRACE", "}", before))
        self.machine.feed(virtual("_NL", "\n", before))
        self.pairs.clear()

    def forgotten(self, opener: Token, last: Token) -> tuple[Token, Token]:
        """Return the unclosed `{` and the token that its `}` should follow, judged by the indentation.

        If a `}` is indented less than the line of the `{` it closes, that `{` should have been closed earlier: before
        the first line that is indented no more than its own.
        """
        for inner, closer in self.pairs:
            if inner.start_pos > opener.start_pos and self.indent(closer) < self.indent(inner):
                opener = inner
                break
        before = opener
        for token in self.tokens:
            if token.type == "_NL" or token.start_pos <= opener.start_pos:
                continue
            if token.line != before.line and self.indent(token) <= self.indent(opener):
                return opener, last if before is opener else before
            before = token
        return opener, last

    def indent(self, token: Token) -> int:
        """Return the column at which the line of a token begins."""
        return self.margins.get(token.line, 1)

    # ------------------------------------------------------------ giving up on a part

    def recover(self, token: Token) -> None:
        """Report `token`, and repair it or spare the part that it is in."""
        if self.last is not None and self.last.type == "RBRACE" and self.machine.accepts("_NL"):
            self.restart_behind_brace(self.last, token)
            return
        body = colon_body(self.tokens, self.index, self.words.file) if token.type == "COLON" else None
        if body is not None:
            self.sink.drop(body.lines)
            self.report(body.error)
            self.give_up(token, [body.stop])
            return
        error = self.mistake(token)
        self.report(error)
        if isinstance(error, errors.DeclarationInside) or not self.repaired(token):
            self.give_up(token, list(self.stops()))

    def give_up(self, token: Token, stops: list[int]) -> None:
        """Replace the smallest part that can be spared by ERROR, and continue at the first of `stops` that can follow it."""
        for depth in range(self.machine.depth, 0, -1):
            if not self.machine.may_take("ERROR", depth):
                continue
            for at in stops:
                kind = "_NL" if starts_declaration(self.tokens, at) else self.tokens[at].type
                if self.machine.accepts("ERROR", kind, depth=depth):
                    self.machine.pop_to(depth)
                    self.machine.feed(token.like("ERROR", ""))
                    self.brackets, self.index = 0, at
                    if kind != self.tokens[at].type:
                        self.feed(virtual("_NL", "\n", self.tokens[at - 1]))
                    return
        raise AssertionError("the grammar takes ERROR for every item and statement")

    def repaired(self, token: Token) -> bool:
        """Repair a one-token slip if that makes the rest of the statement readable; return True if it did."""
        if self.mistakes >= MAX_MISTAKES:
            return False
        found = repair(self.machine, self.tokens, self.index, self.last)
        if found is None:
            return False
        if found.undo and self.last is not None:
            self.machine.pop_to(self.machine.depth - 1)
            self.uncount(self.last)
            self.last = None
        self.index += found.skip
        for meant in found.insert:
            self.feed(meant)
        return True

    def restart_behind_brace(self, brace: Token, token: Token) -> None:
        """Handle text behind a `}` on the same line: keep the body, and let `token` begin a new statement."""
        early = not self.braces and (token.type == "COMMA" or self.begins_statement(self.index))
        if not early:
            self.report(self.mistake(token))
        self.feed(virtual("_NL", "\n", brace))
        self.statement = self.index
        if early:
            self.reopen_body(token)

    def mistake(self, token: Token) -> Diagnostic:
        """Return the diagnostic for an unacceptable token."""
        if self.braces and token.type in ("USE", "PARAM", "FN"):
            return errors.DeclarationInside(span_of(token, self.words.file), kind=str(token))
        if self.braces and token.type == "NAME" and self.index > 1:
            first, kind = self.tokens[self.index - 2 : self.index]
            if kind in DECLARATIONS and first.type in ("_NL", "COMMA", "LBRACE"):
                return errors.DeclarationInside(span_of(kind, self.words.file), kind=str(kind))
        place = Place(
            token,
            self.before(),
            front=self.tokens[max(self.statement - MAX_AHEAD, 0) : self.index],
            behind=self.tokens[self.index + 1 : self.index + 1 + MAX_AHEAD],
            expected=self.machine.expected(),
            file=self.words.file,
        )
        return second_goal(place) or unexpected(place)

    def stops(self) -> Iterator[int]:
        """Yield the token indices at which parsing can resume: soft stops outside brackets, then the end of the statement."""
        depth, brackets = 0, self.brackets
        for at in range(self.index, len(self.tokens)):
            kind = self.tokens[at].type
            if at > self.index and starts_declaration(self.tokens, at):
                yield at
                return
            if depth == 0 and brackets <= 0 and kind in _SOFT_SYNC:
                yield at
            brackets += (kind in ("LPAR", "LSQB")) - (kind in ("RPAR", "RSQB"))
            if depth == 0 and (kind == "_NL" or (kind == "RBRACE" and self.braces)):
                yield at
                return
            depth += (kind == "LBRACE") - (kind == "RBRACE" and depth > 0)
        yield len(self.tokens) - 1
