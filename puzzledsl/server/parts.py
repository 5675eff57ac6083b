"""Incremental parsing for an editor: each declaration is parsed alone and cached, so that few are parsed again."""

import re
from functools import lru_cache
from itertools import accumulate, chain, groupby, takewhile

from puzzledsl.base.diagnostics import Diagnostic, Sink, Span
from puzzledsl.language.words import DECLARATIONS
from puzzledsl.syntax import tree
from puzzledsl.syntax.parse import MAX_TOKENS, parse
from puzzledsl.syntax.recover import MAX_AHEAD, MAX_MISTAKES

_STARTS = re.compile(rf"(?:use|param|fn|let|assert|{'|'.join(DECLARATIONS)})[ \t]")
_NEAR = MAX_AHEAD + 4
"""Words behind a mistake that can change its diagnostic. In front of it, everything back to the last `}` can."""
Read = tuple[tuple[tree.Item, ...], tuple[Diagnostic, ...]]


def parse_parts(text: str, file: str, sink: Sink) -> tree.Module:
    """Return what `syntax.parse.parse` does, but take unchanged declarations from a cache, except near mistakes."""
    module, mistakes = _parsed(text, file)
    for mistake in mistakes:
        sink.add(mistake)
    return module


@lru_cache(maxsize=64)
def _parsed(text: str, file: str) -> tuple[tree.Module, tuple[Diagnostic, ...]]:
    read = _read(text, file) if len(text) <= MAX_TOKENS else None
    if read is None or len(read[1]) >= MAX_MISTAKES:
        sink = Sink()
        return parse(text, file, sink), tuple(sink)
    items, mistakes = read
    end = max((line for item in items for line in (item.span.line, item.span.end_line)), default=1)
    return tree.Module(span=Span(file, 1, 1, end + 1, 1), items=items, broken=bool(mistakes)), mistakes


def _read(text: str, file: str) -> Read | None:
    """Return the items and mistakes of a text. None: a mistake affects distant declarations, so the text must be parsed whole."""
    parts = _cut(text)
    alone = [_alone(part, line, file) for part, line in parts]
    items, mistakes, near = list[tree.Item](), list[Diagnostic](), set[int]()
    for at, (part, _) in enumerate(parts):
        if alone[at][1]:
            if "/*" in part:
                return None
            before = next((i for i in range(at - 1, -1, -1) if "}" in parts[i][0]), 0)
            words = accumulate(len(part.split()) for part, _ in parts[at + 1 :])
            near.update(range(before, at + 2 + sum(1 for _ in takewhile(lambda n: n < _NEAR, words))))
    for is_near, group in groupby(range(len(parts)), near.__contains__):
        run = list(group)
        read = [alone[i] for i in run]
        if is_near:
            joint = _alone("".join(parts[i][0] for i in run), parts[run[0]][1], file)
            if any(item not in joint[0] for found, wrong in read if not wrong for item in found):
                return None
            read = [joint]
        items += chain.from_iterable(found for found, _ in read)
        mistakes += chain.from_iterable(wrong for _, wrong in read)
    return tuple(items), tuple(mistakes)


@lru_cache(maxsize=4096)
def _alone(part: str, line: int, file: str) -> Read:
    """Return the items and mistakes of a part of a text, parsed alone; `line`: its first line in the text."""
    sink = Sink()
    return parse("\n" * (line - 1) + part, file, sink).items, tuple(sink)


def _cut(text: str) -> list[tuple[str, int]]:
    """Return the parts of a text, each with its first line. Comments belong to the declaration below them."""
    lines, cuts = text.splitlines(keepends=True), [0]
    for number, line in enumerate(lines):
        if _STARTS.match(line):
            while number > cuts[-1] and lines[number - 1].strip()[:1] in ("", "#"):
                number -= 1
            cuts.append(number)
    ends = [*cuts[1:], len(lines)]
    return [("".join(lines[a:b]), a + 1) for a, b in zip(cuts, ends, strict=True) if a < b]
