"""The step between lexer and grammar: decide which newlines end a statement, and balance the brackets.

A newline ends a statement except inside ( ) [ ], after an operator, and before a line that begins with one. In the
output, every ( and [ is closed within its statement: a missing closer is reported once and inserted, a superfluous
one is reported and removed. The parser therefore never sees a bracket mistake, and an open bracket cannot swallow the
rest of the file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from puzzledsl.base.diagnostics import Diagnostic, Fix, Label, Sink
from puzzledsl.base.suggest import closest
from puzzledsl.language.words import DECLARATIONS, FUNCTIONS, STATEMENT_KEYWORDS
from puzzledsl.syntax import errors
from puzzledsl.syntax.tokens import Token, Words, after, span_of, virtual

MAX_DEPTH = 100
"""Largest nesting depth of brackets and expressions, and largest length of a chain of one operator."""

_INFIX = set("VBAR AND OR ADD STAR SLASH MOD CMP SAME_AS ARROW IMPLIES RANGE IS IN".split())
CONTINUES_BEFORE = _INFIX | {"BECAUSE", "WHERE", "THEN", "ELSE", "LBRACE"}
CONTINUES_AFTER = _INFIX | {
    "EQUAL",
    "EXTEND",
    "REMOVE",
    "KEEP",
    "COMMA",
    "NOT",
    "IF",
    "THEN",
    "ELSE",
    "WHERE",
}
MAX_REACH = 400
"""Number of tokens searched for the end of a bracket."""

CLOSER = {"LPAR": ("RPAR", ")"), "LSQB": ("RSQB", "]")}
OPENER = {"RPAR": ("LPAR", "("), "RSQB": ("LSQB", "[")}

_OF_CALLS = {"COLON", "ARROW", "EQUAL"}
"""Tokens that stand between round brackets alone."""
_BRACES = {"LBRACE", "RBRACE"}
_ASSIGNS = {"EQUAL", "EXTEND", "REMOVE", "KEEP"}
# A bracket never extends over these tokens. `for` is absent because comprehensions contain it, too.
_NEVER_INSIDE = {word.upper() for word in STATEMENT_KEYWORDS if word != "for"} | {
    "USE",
    "PARAM",
    "FN",
    *_BRACES,
}


def starts_declaration(tokens: list[Token], index: int) -> bool:
    """Return True for a token at the left margin that certainly begins a declaration, even inside an open bracket."""
    token = tokens[index]
    if token.column != 1:
        return False
    if token.type in ("USE", "PARAM", "FN"):
        return True
    if token.type != "NAME" or index + 1 == len(tokens) or tokens[index + 1].type != "NAME":
        return False
    return token in DECLARATIONS or (
        closest(token, DECLARATIONS) is not None and closest(token, STATEMENT_KEYWORDS) is None
    )


@dataclass(slots=True)
class _Layout:
    """The state of one pass. `opened` are the open brackets, `held` is the newline that is not decided yet."""

    words: Words
    sink: Sink
    out: list[Token] = field(default_factory=list)
    opened: list[Token] = field(default_factory=list)
    cut: int | None = None  # where in `out` the last newline inside the open brackets stood
    held: Token | None = None
    too_deep: int = 0

    def newline(self, token: Token, *, begins: bool) -> None:
        """Hold a newline that may end a statement. `begins`: the next line begins one, whatever this line lacks."""
        if self.opened:
            self.cut = len(self.out)
        elif self.held is None and self.out and (begins or self.out[-1].type not in CONTINUES_AFTER):
            self.held = token

    def put(self, token: Token, *, declaration: bool) -> None:
        """Append a token that is not a newline, preceded by the held newline if that ends a statement."""
        if declaration and self.held is None and self.out and self.out[-1].type != "_NL":
            self.held = virtual("_NL", "\n", self.out[-1])
        if self.held is not None and (declaration or token.type not in CONTINUES_BEFORE):
            self.out.append(self.held)
        self.held = None
        self.out.append(token)

    def open(self, token: Token) -> None:
        if len(self.opened) >= MAX_DEPTH:
            if not self.too_deep:
                self.sink.add(errors.TooDeep(span_of(token, self.words.file), limit=MAX_DEPTH))
                self.words.tainted.add(token.line)
            self.too_deep += 1
            return
        self.put(token, declaration=False)
        self.opened.append(token)

    def close(self, token: Token) -> None:
        kind, text = OPENER[token.type]
        where = span_of(token, self.words.file)
        if self.too_deep:
            self.too_deep -= 1
        elif not self.opened:
            lost = self._has_arguments()
            help = f"write the `{text}` in front of the arguments" if lost else ""
            fixes = [] if lost else [Fix.replace(where, "", safe=False)]
            error = errors.StrayCloser(where, opener=text, closer=str(token), help=help, fixes=fixes)
            self._report(error, token)
        elif self.opened[-1].type == kind:
            self.opened.pop()
            self.put(token, declaration=False)
        elif any(o.type == kind for o in self.opened):
            while self.opened[-1].type != kind:
                self._missing(len(self.out))
            self.opened.pop()
            self.put(token, declaration=False)
        else:
            opener = self.opened.pop()
            at = max(i for i, other in enumerate(self.out) if other is opener)
            wrong, certain = opener_is_wrong(self.out, at)
            self._report(mismatched(opener, token, wrong, certain, self.words.file), token)
            kind, text = OPENER[token.type] if wrong else CLOSER[opener.type]
            if wrong:
                self.out[at] = opener.like(kind, text)
            self.put(token if wrong else token.like(kind, text), declaration=False)
        if not self.opened:
            self.cut = None

    def _has_arguments(self) -> bool:
        """Return True if this statement has `name: value` outside brackets: their opener is lost."""
        for token in reversed(self.out):
            if token.type in ("_NL", *_BRACES) or token.type in _ASSIGNS:
                return False
            if token.type == "COLON":
                return True
        return False

    def stray_brace(self, token: Token) -> None:
        """Report and drop a brace inside brackets."""
        where = span_of(token, self.words.file)
        if token.type == "RBRACE":
            self._report(errors.StrayCloser(where, opener="{", closer="}"), token)
        else:
            self._report(errors.UnexpectedToken(where, "inside brackets", found="`{`"), token)

    def close_all(self) -> None:
        """Close all open brackets: those from before the last newline inside brackets at that newline, the others here."""
        cut = len(self.out) if self.cut is None else self.cut
        border = self.out[cut].start_pos if cut < len(self.out) else None
        while self.opened and border is not None and self.opened[-1].start_pos >= (border or 0):
            self._missing(len(self.out))
        at = cut
        while self.opened:
            at = self._missing(at) + 1
        if self.cut is not None:
            self.out.insert(at, virtual("_NL", "\n", self.out[at - 1]))
        self.too_deep = 0
        self.cut = None

    def _missing(self, at: int) -> int:
        """Report that the innermost bracket is never closed and insert its closer at `out[at]`."""
        opener = self.opened.pop()
        before = self.out[at - 1]
        kind, text = CLOSER[opener.type]
        if opener.line not in self.words.tainted:
            label = Label(span_of(opener, self.words.file), "opened here")
            where = after(before, self.words.file)
            fixes = [Fix.insert(where, text, safe=False)]
            error = errors.Unclosed(
                where, f"expected `{text}`", opener=str(opener), closer=text, secondary=[label], fixes=fixes
            )
            self._report(error, before)
            self.words.tainted.add(opener.line)
        self.out.insert(at, virtual(kind, text, before))
        return at

    def _report(self, error: Diagnostic, token: Token) -> None:
        if token.line not in self.words.tainted:
            self.sink.add(error)
            self.words.tainted.add(token.line)


def lay_out(words: Words, sink: Sink) -> list[Token]:
    """Return the tokens for the grammar: `_NL` only between statements, brackets balanced within each statement."""
    state = _Layout(words, sink)
    tokens = words.tokens
    for index, token in enumerate(tokens):
        if token.type == "_NL":
            state.newline(token, begins=_begins_statement(tokens, index + 1))
            continue
        declaration = starts_declaration(tokens, index)
        if state.opened and token.type in ("LBRACE", "RBRACE") and _closes_later(tokens, index):
            state.stray_brace(token)
            continue
        if state.opened:
            token = _inside(state, token, declaration)
        if token.type in CLOSER:
            state.open(token)
        elif token.type in OPENER:
            state.close(token)
        else:
            state.put(token, declaration=declaration)
    state.close_all()
    if state.out and state.out[-1].type != "_NL":
        state.out.append(state.held or virtual("_NL", "\n", state.out[-1]))
    return state.out


def _begins_statement(tokens: list[Token], index: int) -> bool:
    """Return True for a line that begins with `name =` or with the keyword of a statement."""
    first = tokens[index].type if index < len(tokens) else ""
    second = tokens[index + 1].type if index + 1 < len(tokens) else ""
    return (first == "NAME" and second in _ASSIGNS) or (first in _NEVER_INSIDE and first not in _BRACES)


def _closes_later(tokens: list[Token], index: int) -> bool:
    """Return True if the open bracket is closed after a brace inside it: then the brace is the mistake."""
    depth = 0
    for at in range(index + 1, min(index + MAX_REACH, len(tokens))):
        kind = tokens[at].type
        depth += (kind in CLOSER) - (kind in OPENER)
        if depth < 0:
            return True
        if kind in _NEVER_INSIDE or kind in _ASSIGNS or starts_declaration(tokens, at):
            return False
    return False


def _inside(state: _Layout, token: Token, declaration: bool) -> Token:
    """Handle a token inside brackets: close them if it cannot occur there, and read `name = x` as `name: x`."""
    leaves = declaration or token.type in _NEVER_INSIDE
    if token.type in _ASSIGNS:
        if token.type == "EQUAL" and _names_argument(state):
            name = str(state.out[-1])
            where = span_of(token, state.words.file)
            gap = after(state.out[-1], state.words.file).start.to(where)
            fix = Fix.replace(gap, ":", f"write `{name}:`")
            state._report(errors.EqualsForColon(where, name=name, fixes=[fix]), token)
            return token.like("COLON", ":")
        leaves = True
    if leaves:
        state.close_all()
    return token


def _names_argument(state: _Layout) -> bool:
    """Return True after `(name` or `, name`, where `=` was meant as `:`."""
    return (
        state.opened[-1].type == "LPAR"
        and len(state.out) >= 2
        and state.out[-1].type == "NAME"
        and state.out[-2].type in ("LPAR", "COMMA")
    )


# ---------------------------------------------------------------- brackets of two kinds


def opener_is_wrong(out: Sequence[Token], at: int) -> tuple[bool, bool]:
    """Return whether the opener `out[at]` is the slip, and whether that is certain. `out` ends before the closer."""
    opener, inside = out[at], _own(out[at + 1 :])
    before = out[at - 1] if at and out[at - 1].end_pos == opener.start_pos else None
    square = opener.type == "LSQB"
    if _OF_CALLS & inside or (before is not None and _is_called(before)):
        return square, True
    if before is not None and before == "layers":
        return not square, True
    if before is None or before.type not in ("NAME", "RPAR", "RSQB"):
        return not square and "COMMA" in inside, not square or "COMMA" in inside
    return False, False


def mismatched(
    opener: Token, closer: Token, wrong: bool, certain: bool, file: str
) -> errors.MismatchedCloser:
    """Return the diagnostic for an opener and a closer of two kinds. `wrong`: the opener is the slip."""
    slip, other = (opener, closer) if wrong else (closer, opener)
    wanted = (OPENER if wrong else CLOSER)[other.type][1]
    label = Label(span_of(other, file), "closed here" if wrong else "opened here")
    fixes = [Fix.replace(span_of(slip, file), wanted, safe=certain)]
    return errors.MismatchedCloser(
        span_of(slip, file),
        opener=str(opener),
        closer=str(closer),
        wanted=wanted,
        secondary=[label],
        fixes=fixes,
    )


def _own(tokens: Sequence[Token]) -> set[str]:
    """Return the kinds of tokens that stand in no inner bracket."""
    depth, kinds = 0, set()
    for token in tokens:
        depth += token.type in CLOSER
        if depth == 0:
            kinds.add(token.type)
        depth -= token.type in OPENER
    return kinds


def _is_called(name: Token) -> bool:
    from puzzledsl.language.calls import CONSTRUCTORS  # only a mistake needs the alternatives that it imports

    return name in FUNCTIONS or name in CONSTRUCTORS
