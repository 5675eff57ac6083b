"""The step between lexer and grammar: decide which newlines end a statement, and balance the brackets.

A newline ends a statement except inside ( ) [ ], behind CONTINUES_AFTER (operators, `,`) and before CONTINUES_BEFORE (operators,
`{`). In the output, every ( and [ is closed within its statement: a missing closer is reported once and inserted, a superfluous
one removed. So the parser never sees a bracket mistake, and an open bracket cannot swallow the rest of the file.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import takewhile

from puzzledsl.base.diagnostics import Args, Diagnostic, Fix, Label, Sink
from puzzledsl.language.kinds import ANYWHERE, CONSTRUCTORS
from puzzledsl.language.words import DECLARATIONS, FUNCTIONS, STATEMENT_KEYWORDS
from puzzledsl.syntax import errors
from puzzledsl.syntax.tokens import Token, Words, after, span_of, virtual

MAX_DEPTH = 100
"""Largest nesting depth of brackets and expressions, and largest length of a chain of one operator."""
_INFIX = set("VBAR AND OR ADD STAR SLASH MOD CMP SAME_AS ARROW IMPLIES RANGE IS IN".split())
CONTINUES_BEFORE = _INFIX | set("BECAUSE WHERE THEN ELSE LBRACE".split())
CONTINUES_AFTER = _INFIX | set("EQUAL EXTEND REMOVE KEEP COMMA NOT IF THEN ELSE WHERE".split())
MAX_REACH = 400
"""Largest number of tokens that are searched for the closer of a bracket."""
CLOSER = {"LPAR": ("RPAR", ")"), "LSQB": ("RSQB", "]")}
OPENER = {"RPAR": ("LPAR", "("), "RSQB": ("LSQB", "[")}
_OF_CALLS = {"COLON", "ARROW", "EQUAL"}
"""Kinds of tokens that stand in round brackets, but never in square ones."""
_CALLED = *FUNCTIONS, *CONSTRUCTORS
_BRACES = {"LBRACE", "RBRACE"}
ASSIGNS = {"EQUAL", "EXTEND", "REMOVE", "KEEP"}
_BEGINS = {"USE", "PARAM", "FN"} | {word.upper() for word in STATEMENT_KEYWORDS if word != "for"}
"""Tokens that a bracket never extends over. `for` is absent because comprehensions contain it, too."""
_ENDS_BRACKETS = _BEGINS | _BRACES | ASSIGNS


def starts_declaration(tokens: list[Token], index: int) -> bool:
    """Return True for a token at the left margin that certainly begins a declaration, even inside an open bracket."""
    token = tokens[index]
    if token.column != 1 or token.type in ("USE", "PARAM", "FN"):
        return token.column == 1
    return token in DECLARATIONS and index + 1 < len(tokens) and tokens[index + 1].type == "NAME"


def lay_out(words: Words, sink: Sink) -> list[Token]:
    """Return the tokens for the grammar: `_NL` only between statements, brackets balanced in each. Mistakes go to `sink`."""
    state, tokens = _Layout(words, sink), words.tokens
    for index, token in enumerate(tokens):
        if token.type == "_NL":
            first, second = (*(t.type for t in tokens[index + 1 : index + 3]), "", "")[:2]
            begins = first in _BEGINS or (first == "NAME" and second in ASSIGNS)
            if state.opened:
                state.cut = len(state.out)
            elif state.held is None and state.out and (begins or state.out[-1].type not in CONTINUES_AFTER):
                state.held = token
            continue
        declaration = token.column == 1 and starts_declaration(tokens, index)
        if state.opened and token.type in _BRACES and _closes_later(tokens, index):
            where = span_of(token, words.file)
            if token.type == "RBRACE":
                state.report(errors.StrayCloser(where, opener="{", closer="}"), token)
            else:
                state.report(errors.UnexpectedToken(where, "inside brackets", found="`{`"), token)
            continue
        if state.opened and (declaration or token.type in _ENDS_BRACKETS):
            token = state.inside(token, declaration)
        if token.type in CLOSER:
            state.open(token)
        elif token.type in OPENER:
            state.close(token)
        elif state.held is not None or declaration:
            state.put(token, declaration=declaration)
        else:
            state.out.append(token)
    state.close_all()
    if state.out and state.out[-1].type != "_NL":
        state.out.append(state.held or virtual("_NL", "\n", state.out[-1]))
    return state.out


def _closes_later(tokens: list[Token], index: int) -> bool:
    """Return True if the open bracket is closed behind the brace at `index`: then the brace is the mistake."""
    depth = 0
    for at in range(index + 1, min(index + MAX_REACH, len(tokens))):
        kind = tokens[at].type
        depth += (kind in CLOSER) - (kind in OPENER)
        if depth < 0 or kind in _ENDS_BRACKETS or starts_declaration(tokens, at):
            return depth < 0
    return False


@dataclass(slots=True)
class _Layout:
    """The state of one pass. `opened`: the open brackets; `held`: the newline of which the next token decides if it counts."""

    words: Words
    sink: Sink
    out: list[Token] = field(default_factory=list)
    opened: list[Token] = field(default_factory=list)
    cut: int | None = None  # where in `out` the last newline inside the open brackets stood
    held: Token | None = None
    too_deep: int = 0

    def put(self, token: Token, *, declaration: bool = False) -> None:
        """Append a token to `out`, and before it the held newline if that ends a statement. `declaration`: it begins one."""
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
        self.put(token)
        self.opened.append(token)

    def close(self, token: Token) -> None:
        kind, text = OPENER[token.type]
        if self.too_deep:
            self.too_deep -= 1
        elif not self.opened:
            ends = {"_NL"} | _BRACES | ASSIGNS
            here = list(takewhile(lambda t: t.type not in ends, reversed(self.out)))
            # `name: value`, `layersi]`, `layers-1]`, `measured2)` and `texttexts + "…")` have lost their opener
            lost = any(t.type == "COLON" or re.fullmatch(r"layers\w+", t) for t in here)
            lost |= any(
                t == "layers" and u.type in ("ADD", "RANGE") for t, u in zip(here[1:], here, strict=False)
            )
            lost |= any(t.type == "NAME" and t[-1:].isdigit() for t in here[:1])
            lost |= any(t.type == "NAME" and t not in _CALLED and t.startswith(_CALLED) for t in here)
            place = "arguments" if text == "(" else "layers"
            help = f"write the `{text}` in front of the {place}" if lost else ""
            where = span_of(token, self.words.file)
            fixes = [] if lost else [Fix.replace(where, "", safe=False)]
            error = errors.StrayCloser(where, opener=text, closer=str(token), help=help, fixes=fixes)
            self.report(error, token)
        elif any(opener.type == kind for opener in self.opened):
            while self.opened[-1].type != kind:
                self._missing(len(self.out))
            self.opened.pop()
            self.put(token)
        else:
            opener = self.opened.pop()  # of another kind: both are put as one
            at = max(i for i, other in enumerate(self.out) if other is opener)
            wrong, certain = _opener_is_wrong(self.out, at)
            slip, other = (opener, token) if wrong else (token, opener)
            kind, wanted = (OPENER if wrong else CLOSER)[other.type]
            where, beside = span_of(slip, self.words.file), span_of(other, self.words.file)
            label = Label(beside, "closed here" if wrong else "opened here")
            signs: Args = {"opener": str(opener), "closer": str(token), "wanted": wanted}
            signs["secondary"] = [label]
            fix = Fix.replace(where, wanted, safe=certain)
            self.report(errors.MismatchedCloser(where, fixes=[fix], **signs), token)
            if wrong:
                self.out[at] = opener.like(kind, wanted)
            self.put(token if wrong else token.like(kind, wanted))
        if not self.opened:
            self.cut = None

    def inside(self, token: Token, declaration: bool) -> Token:
        """Return a token that cannot stand in brackets, after closing them; for `=` of an argument `name = x`, return `:`."""
        before = [t.type for t in self.out[-2:]]
        named = self.opened[-1].type == "LPAR" and before in (["LPAR", "NAME"], ["COMMA", "NAME"])
        if token.type == "EQUAL" and named:
            name, where = self.out[-1], span_of(token, self.words.file)
            fix = Fix.replace(after(name, self.words.file).start.to(where), ":", f"write `{name}:`")
            self.report(errors.EqualsForColon(where, name=str(name), fixes=[fix]), token)
            return token.like("COLON", ":")
        self.close_all()
        return token

    def close_all(self) -> None:
        """Close all open brackets. Those opened before the last newline in brackets are closed at it, the others here."""
        cut = len(self.out) if self.cut is None else self.cut
        while self.opened and cut < len(self.out) and self.opened[-1].start_pos >= self.out[cut].start_pos:
            self._missing(len(self.out))
        at = cut
        while self.opened:
            at = self._missing(at) + 1
        if self.cut is not None:
            self.out.insert(at, virtual("_NL", "\n", self.out[at - 1]))
        self.too_deep, self.cut = 0, None

    def _missing(self, at: int) -> int:
        """Report that the innermost bracket is never closed; insert its closer at or before `out[at]`. Return `at`."""
        opener = self.opened.pop()
        end = _end_of_call(self.out, opener, at)
        before, (kind, text) = self.out[end - 1], CLOSER[opener.type]
        if opener.line not in self.words.tainted:
            label = Label(span_of(opener, self.words.file), "opened here")
            where = after(before, self.words.file)
            # of names that a cut `use` lost, nobody knows
            lost = any(token.type == "USE" and token.line == opener.line for token in self.out)
            inside = self.out[next(i for i, token in enumerate(self.out) if token is opener) :]
            named = any(token.type == "COLON" for token in inside)
            lost |= named and [t.type for t in self.out[end - 2 : end]] == ["COMMA", "NAME"]  # nor of a value
            lost |= named and inside[1].type == opener.type  # `f((x, y: z)`: brackets hold one thing
            four = zip(inside, inside[1:], inside[2:], inside[3:], strict=False)  # as in `f((x)`
            twice = [b for a, b, _, c in four if a.type == b.type == opener.type and c.type == kind]
            fix = Fix.insert(where, text, safe=False)
            if twice:
                second = span_of(twice[0], self.words.file)
                fix = Fix.replace(second, "", f"remove one `{opener}`", safe=False)
            fixes = [] if lost else [fix]
            signs: Args = {"opener": str(opener), "closer": text, "secondary": [label]}
            self.report(errors.Unclosed(where, f"expected `{text}`", fixes=fixes, **signs), before)
            self.words.tainted.add(opener.line)
        self.out.insert(end, virtual(kind, text, before))
        return at

    def report(self, error: Diagnostic, token: Token) -> None:
        if token.line not in self.words.tainted:
            self.sink.add(error)
            self.words.tainted.add(token.line)


def _end_of_call(out: Sequence[Token], opener: Token, at: int) -> int:
    """Return the index in `out` where a bracket that is never closed most likely ends; `at` if there is no sign of it.

    It ends before `| noop` of a choice, and before an argument that the call inside it does not have.
    """
    takes = {name: call.arguments for name, call in ANYWHERE.items() if not call.named_by}
    calls: list[Token] = []
    for place in range(max(i for i in range(at) if out[i] is opener) + 1, at - 1):
        token, (word, colon) = out[place], (*out[place + 1 : place + 3], opener)[:2]
        if token.type in CLOSER:
            calls.append(out[place - 1])
        elif token.type in OPENER and calls:
            calls.pop()
        ends = token.type == "VBAR" and not calls and word in CONSTRUCTORS
        if token.type == "COMMA" and calls and colon.type == "COLON":
            ends = word not in takes.get(calls[-1], word)
        if ends:
            return place
    return at


def _opener_is_wrong(out: Sequence[Token], at: int) -> tuple[bool, bool]:
    """Return True if of two unlike brackets the opener `out[at]` is wrong, not the closer; and True if that is certain."""
    depth, own = 0, set[str]()  # the kinds of tokens that stand in no inner bracket
    for token in out[at + 1 :]:
        depth += token.type in CLOSER
        if depth == 0:
            own.add(token.type)
        depth -= token.type in OPENER
    before = out[at - 1] if at and out[at - 1].end_pos == out[at].start_pos else None
    square = out[at].type == "LSQB"
    if _OF_CALLS & own or before in FUNCTIONS or before in CONSTRUCTORS:
        return square, True
    if before == "layers":
        return not square, True
    if before is None or before.type not in ("NAME", "RPAR", "RSQB"):
        return not square and "COMMA" in own, not square or "COMMA" in own
    return False, False
