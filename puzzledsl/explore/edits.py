"""A question as an edit of the program's text: bounds replaced, statements commented out, choices added as requirements.

The text that comes out is what `pzl fmt` writes.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from puzzledsl.base.diagnostics import Span
from puzzledsl.explore.question import Question
from puzzledsl.explore.statements import Source, Statement
from puzzledsl.syntax.format import format_source

Edit = tuple[int, int, str]
"""Start, end and new text."""


@dataclass(frozen=True, slots=True)
class Edited:
    """A formatted text. `lines`: those that the question changes. `diff`: against the file as it is."""

    text: str
    lines: tuple[str, ...]
    diff: tuple[str, ...]


def edited(
    source: Source, search: str, statements: Sequence[Statement], question: Question, choices: Sequence[str]
) -> Edited:
    """Apply a question to a text. `choices`: its choices as conditions of `require`."""
    edits = [edit for statement in statements for edit in _edits(source, statement, question)]
    edits += _added(source, search, choices)
    parts, at = [], 0
    for start, stop, new in sorted(edits):
        parts += [source.text[at:start], new]
        at = max(at, stop)  # two may take the same comma
    after, before = format_source("".join(parts) + source.text[at:]), format_source(source.text)
    changes = difflib.ndiff(before.splitlines(), after.splitlines())
    name, lines = Path(source.file).name, (source.text.splitlines(), after.splitlines())
    diff = difflib.unified_diff(*lines, name, f"{name}, saved", n=2, lineterm="")
    return Edited(after, tuple(line[2:] for line in changes if line.startswith("+ ")), tuple(diff))


def _edits(source: Source, statement: Statement, question: Question) -> Iterator[Edit]:
    if statement.node is None:
        return
    span, is_off = statement.node.span, statement.number in question.off
    if is_off and not _has_its_lines(source, span):
        yield _removal(source, span)
        return
    for bound in statement.bounds:
        if bound.number in question.bounds:
            yield *source.reach(bound.span), question.bounds[bound.number]
    for line in range(span.line, span.end_line + 1) if is_off else ():
        start = source.offset(line, 1)
        at = start + _indent(source.text[start:])
        yield at, at, "# "


def _indent(text: str) -> int:
    """Count the blanks that a text begins with."""
    return len(text) - len(text.lstrip(" \t"))


def _has_its_lines(source: Source, span: Span) -> bool:
    """True if nothing but a comma or a comment shares a statement's lines, so that they can be commented out."""
    start, stop = source.reach(span)
    before = source.text[source.offset(span.line, 1) : start]
    after = source.text[stop:].split("\n", 1)[0].lstrip(" \t,")
    return not before.strip() and (not after or after.startswith("#"))


def _removal(source: Source, span: Span) -> Edit:
    """Remove a statement between others, with the comma before it on its line, else the one after."""
    text = source.text
    start, stop = source.reach(span)
    before = len(text[:start].rstrip(" \t"))
    if text[before - 1 : before] == ",":
        return before - 1, stop, ""
    after = stop + _indent(text[stop:])
    return start, after + (text[after : after + 1] == ","), ""


def _added(source: Source, search: str, choices: Sequence[str]) -> Iterator[Edit]:
    """Add requirements at the end of a search's body."""
    found = source.search(search)
    if not choices or found is None:
        return
    lines = "".join(f"  require {condition}\n" for condition in choices)
    brace = source.reach(found.span)[1] - 1  # a search has a body, or it is a mistake
    begin = source.text.rfind("\n", 0, brace) + 1
    own_line = not source.text[begin:brace].strip()
    yield (begin, begin, lines) if own_line else (brace, brace, f"\n{lines}")
