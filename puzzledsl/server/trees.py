"""Incremental parsing: cut a text before its declarations and parse only the parts that an edit touches.

A part without mistakes means the same wherever it stands, so its tree is reused, moved to its lines. Error recovery looks
beyond the part with the mistake. Such parts are therefore parsed with their neighbours, in a text whose other lines are
blank; if the neighbours then read otherwise than alone, the whole text is parsed.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from dataclasses import dataclass
from itertools import product
from typing import Any

from puzzledsl.base.diagnostics import Sink, Span
from puzzledsl.language.words import DECLARATIONS
from puzzledsl.syntax import tree
from puzzledsl.syntax.parse import MAX_BYTES, MAX_TOKENS, normalise, parse
from puzzledsl.syntax.recover import MAX_AHEAD, MAX_MISTAKES
from puzzledsl.syntax.tokens import lex

MOST = 64
"""Number of files in the cache."""
_STARTS = re.compile(rf"(?:use|param|fn|let|assert|{'|'.join(DECLARATIONS)})[ \t]")
_NOT_CODE = ("_NL", "COMMENT", "DOC")
NEIGHBOURS = MAX_AHEAD + 4
"""Number of words on each side of a mistake that error recovery may look at."""


class Trees:
    """A parser that caches the last text of each file with its tree and mistakes, and parses the parts that have changed."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, Parts] = OrderedDict()

    def parse(self, text: str, file: str, sink: Sink) -> tree.Module:
        """Parse like `syntax.parse.parse`; return the cached tree if the text of the file has not changed."""
        known = self._known.setdefault(file, Parts())
        self._known.move_to_end(file)
        if len(self._known) > MOST:
            self._known.popitem(last=False)
        if known.module is None or known.text != text:
            known.mistakes = Sink()
            known.module, known.text = known.parse(text, file, known.mistakes), text
        for diagnostic in known.mistakes:
            sink.add(diagnostic)
        return known.module


@dataclass(frozen=True, slots=True)
class _Part:
    """A declaration with the comments above it. `items` is None if it has mistakes."""

    text: str
    line: int  # of its first line, from 1
    stop: int  # the line behind it
    tokens: int
    words: int  # tokens without comments and newlines
    items: tuple[tree.Item, ...] | None


class Parts:
    """The parser of the versions of one file. It keeps the last version: its parts, tree and mistakes."""

    def __init__(self) -> None:
        self._known: dict[str, _Part] = {}
        self.text = ""
        self.module: tree.Module | None = None
        self.mistakes = Sink()

    def parse(self, text: str, file: str, sink: Sink) -> tree.Module:
        """Return the tree of a text and report its mistakes exactly as `syntax.parse.parse` does."""
        text, own = normalise(text), Sink()
        parts = [] if len(text) > MAX_BYTES else [self._part(*part, file) for part in _cut(text)]
        if parts:
            self._known = {part.text: part for part in parts}
        small = len(text) <= MAX_BYTES and sum(part.tokens for part in parts) <= MAX_TOKENS
        found = _mended(parts, file, own) if small else None
        if found is None:
            return parse(text, file, sink)
        for diagnostic in own.items:
            sink.add(diagnostic)
        end = max((line for item in found for line in (item.span.line, item.span.end_line)), default=1)
        return tree.Module(span=Span(file, 1, 1, end + 1, 1), items=tuple(found), broken=bool(own.items))

    def _part(self, text: str, line: int, file: str) -> _Part:
        known = self._known.get(text)
        if known is None:
            sink = Sink()
            module = parse(text, file, sink)
            kinds = [token.type for token in lex(text)]
            words = sum(kind not in _NOT_CODE for kind in kinds)
            stop = 1 + text.count("\n") + (not text.endswith("\n"))
            known = _Part(text, 1, stop, len(kinds), words, None if sink.items else module.items)
        by = line - known.line
        if by == 0:
            return known
        items = None if known.items is None else _shifted(known.items, by)
        return _Part(text, line, known.stop + by, known.tokens, known.words, items)


def _cut(text: str) -> list[tuple[str, int]]:
    """Return the parts of a text, each with its first line. Comments belong to the declaration below them."""
    lines = re.findall(r"[^\n]*\n|[^\n]+", text)
    cuts = [0]
    for number, line in enumerate(lines):
        if _STARTS.match(line):
            while number > cuts[-1] and lines[number - 1].strip()[:1] in ("", "#"):
                number -= 1
            cuts.append(number)
    ends = [*cuts[1:], len(lines)]
    return [("".join(lines[a:b]), a + 1) for a, b in zip(cuts, ends, strict=True) if a < b]


def _mended(parts: list[_Part], file: str, sink: Sink) -> list[tree.Item] | None:
    """Return the items of all parts and report their mistakes; None if these reach beyond their neighbours."""
    wrong = [index for index, part in enumerate(parts) if part.items is None]
    if not wrong:
        return [item for part in parts for item in part.items or ()]
    if any("/*" in parts[index].text for index in wrong):  # such a comment can cover the parts behind it
        return None
    around = set(wrong)  # the parts with mistakes and enough of those beside them
    for index, step in product(wrong, (-1, 1)):
        at, seen = index + step, 0
        while 0 <= at < len(parts) and seen < NEIGHBOURS:
            around.add(at)
            at, seen = at + step, seen + parts[at].words
    shown = (p.text if i in around else "\n" * p.text.count("\n") for i, p in enumerate(parts))
    own = parse("".join(shown), file, sink).items
    if len(sink.items) >= MAX_MISTAKES:
        return None
    found: list[tree.Item] = []
    for index, part in enumerate(parts):
        here = tuple(i for i in own if part.line <= i.span.line < part.stop) if index in around else ()
        if index in around and part.items is not None and not same(here, part.items):
            return None
        found += here if part.items is None else part.items
    return found


def _shifted(value: Any, by: int) -> Any:
    """Return a tree, or a tuple of trees, with every span `by` lines further down."""
    if isinstance(value, Span):
        return Span(value.file, value.line + by, value.column, value.end_line + by, value.end_column)
    if isinstance(value, tuple):
        return tuple([_shifted(each, by) for each in value])
    if isinstance(value, tree.Node):
        names = value.__dataclass_fields__
        return type(value)(**{name: _shifted(getattr(value, name), by) for name in names})
    return value


def same(one: object, other: object) -> bool:
    """Return True for equal trees at the same places."""
    if isinstance(one, tuple) and isinstance(other, tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, tree.Node) and type(one) is type(other):
        return all(same(getattr(one, name), getattr(other, name)) for name in one.__dataclass_fields__)
    return one == other
