"""The lexer, which accepts any text, and the LALR automaton over its tokens, with the lookahead that error recovery needs.

grammars/pzl.lark defines tokens and rules; `scripts/grammar.py` makes pzl.json of it, with Lark's tables. A branch of the parse
tree has a child for each kept symbol of its rule; a rule marked with `?` in the grammar makes no branch around a single child.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from puzzledsl.base.diagnostics import Span
from puzzledsl.base.resources import resource


class Token(str):
    """A token: its text, kind (`type`) and place: 0-based offsets, 1-based lines and columns in code points, ends exclusive."""

    __slots__ = ("column", "end_column", "end_line", "end_pos", "line", "start_pos", "type")
    type: str
    start_pos: int
    end_pos: int
    line: int
    column: int
    end_line: int
    end_column: int

    def like(self, kind: str, text: str) -> Token:
        """Return a token of another kind and text at this place."""
        token = Token(text)
        for name in Token.__slots__:
            setattr(token, name, getattr(self, name))
        token.type = kind
        return token


@functools.cache
def grammar() -> Any:
    """Return the content of grammars/pzl.json."""
    return json.loads(resource("grammars", "pzl.json").read_bytes())


@functools.cache
def _lexer() -> tuple[re.Pattern[str], frozenset[str]]:
    words = "|".join(f"(?P<{name}>{expression})" for name, expression in grammar()["words"])
    return re.compile(words), frozenset(grammar()["keywords"])


def lex(text: str, most: int | None = None) -> list[Token]:
    """Return the tokens of any text, including comments, newlines and unknown characters; at most the first `most`."""
    pattern, keywords = _lexer()
    found: list[Token] = []
    line, margin = 1, -1
    for match in pattern.finditer(text):
        kind = match.lastgroup or ""
        start, end = match.span()
        if kind == "BLANK":
            continue
        token = Token(match.group())
        token.type = token.upper() if kind == "NAME" and token in keywords else kind
        token.start_pos, token.line, token.column = start, line, start - margin
        if kind == "_NL":
            line, margin = line + 1, start
        token.end_pos, token.end_line, token.end_column = end, line, end - margin
        found.append(token)
        if len(found) == most:
            break
    return found


@dataclass(slots=True)
class Words:
    """The tokens of a file, its doc comments, and its `tainted` lines: those with a reported mistake, which may cause others."""

    tokens: list[Token]
    docs: list[Token]
    file: str
    tainted: set[int] = field(default_factory=set)
    mended: set[int] = field(default_factory=set)
    """Lines with a foreign spelling, read as what was likely meant."""


def span_of(token: Token, file: str) -> Span:
    """Return the span of a token."""
    return Span(file, token.line, token.column, token.end_line, token.end_column)


def after(token: Token, file: str) -> Span:
    """Return the span of the one column just behind a token: the place of something that is missing."""
    return Span(file, token.end_line, token.end_column, token.end_line, token.end_column + 1)


def virtual(kind: str, text: str, near: Token) -> Token:
    """Return an inserted token of width zero, just behind `near`."""
    token = near.like(kind, text)
    token.start_pos, token.line, token.column = near.end_pos, near.end_line, near.end_column
    return token


Place = tuple[int, int]
"""A line and a column."""


@dataclass(slots=True)
class Branch:
    """A node of the parse tree: its rule `data`, its children, and its start and end (None for a node without tokens)."""

    data: str
    children: list[Any]
    start: Place | None
    end: Place | None


class _Value(NamedTuple):
    """An entry of the value stack. For `(x)` the place includes the brackets, while that of the branch does not."""

    node: Any
    start: Place | None
    end: Place | None


class _Rule(NamedTuple):
    """A grammar rule. `marks`: each symbol's value is kept (`+`), inlined (`*`) or dropped (`-`); `unit`: one symbol, kept."""

    origin: str
    name: str
    single: int
    marks: str
    unit: bool


@functools.cache
def _tables() -> tuple[list[dict[str, int]], list[_Rule]]:
    rules = [(*rule, bool(rule[2]) and rule[3] == "+") for rule in grammar()["rules"]]
    return grammar()["states"], [_Rule(*rule) for rule in rules]


class Machine:
    """One run of the automaton. Depths count states: depth 1 is the start state alone."""

    def __init__(self) -> None:
        self._table, self._rules = _tables()
        self._end: int = grammar()["end"]
        self._states = [0]
        self._values: list[_Value] = []

    @property
    def depth(self) -> int:
        """The number of states on the stack."""
        return len(self._states)

    def accepts(self, *kinds: str, depth: int | None = None) -> bool:
        """Return True if tokens of these kinds, in order, can come next, here or after `pop_to(depth)`. Changes nothing."""
        states = self._states[:depth]
        for kind in kinds:
            while (action := self._table[states[-1]].get(kind)) is not None and action < 0:
                rule = self._rules[-1 - action]
                del states[len(states) - len(rule.marks) :]
                states.append(self._table[states[-1]][rule.origin])
                if states[-1] == self._end:
                    return True
            if action is None:
                return False
            states.append(action)
        return True

    def expected(self) -> set[str]:
        """Return the kinds of tokens that can come next, without ERROR and the end of the file."""
        state = self._table[self._states[-1]]
        return {k for k in state if k.isupper() and k not in ("ERROR", "$END") and self.accepts(k)}

    def take(self, tokens: Sequence[Token], at: int = 0, stops: frozenset[str] | None = None) -> int:
        """Consume the token at `at`; with `stops`, also those behind it, up to one that is unacceptable or of a kind in `stops`.

        Return the index of the first token left. If that is unacceptable, stacks stay as before it, without reductions for it.
        """
        table, states, values = self._table, self._states, self._values
        for index in range(at, at + 1 if stops is None else len(tokens)):
            token = tokens[index]
            if index > at and stops is not None and token.type in stops:
                return index
            action = table[states[-1]].get(token.type)
            before = (states[:], values[:]) if action is not None and action < 0 else None
            while action is not None and action < 0:
                rule = self._rules[-1 - action]
                if rule.unit:
                    states[-1] = table[states[-2]][rule.origin]
                    action = table[states[-1]].get(token.type)
                    continue
                first = len(values) - len(rule.marks)
                replaced = values[first:]
                del values[first:], states[first + 1 :]
                children: list[Any] = []
                for mark, value in zip(rule.marks, replaced, strict=True):
                    if mark == "+":
                        children.append(value.node)
                    elif mark == "*":
                        children += value.node.children
                start = next((v.start for v in replaced if v.start), None)
                end = next((v.end for v in reversed(replaced) if v.end), None)
                alone = rule.single and len(children) == 1
                node = children[0] if alone else Branch(rule.name, children, start, end)
                values.append(_Value(node, start, end))
                states.append(table[states[-1]][rule.origin])
                if states[-1] == self._end:
                    return index
                action = table[states[-1]].get(token.type)
            if action is None:
                if before is not None:
                    states[:], values[:] = before
                return index
            states.append(action)
            values.append(_Value(token, (token.line, token.column), (token.end_line, token.end_column)))
        return at + 1 if stops is None else len(tokens)

    def pop_to(self, depth: int) -> None:
        """Pop the stack down to `depth`."""
        del self._states[depth:], self._values[depth - 1 :]

    def finish(self) -> Branch:
        """Return the whole parse tree. Call it when the end of the file is acceptable."""
        end = Token("")
        end.type = "$END"
        self.take([end])
        root: Branch = self._values[-1].node
        return root
