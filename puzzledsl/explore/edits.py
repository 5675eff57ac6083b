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
from puzzledsl.explore.sources import Source
from puzzledsl.explore.statements import Statement
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
    edits = [
        edit
        for statement in statements
        if statement.span is not None
        for edit in _edits(source, statement, statement.span, question)
    ]
    edits += _added(source, search, choices)
    text = _applied(source.text, edits)
    after, before = format_source(text), format_source(source.text)
    changes = difflib.ndiff(before.splitlines(), after.splitlines())
    name, lines = Path(source.file).name, (source.text.splitlines(), after.splitlines())
    diff = difflib.unified_diff(*lines, name, f"{name}, saved", n=2, lineterm="")
    return Edited(after, tuple(line[2:] for line in changes if line.startswith("+ ")), tuple(diff))


def _applied(text: str, edits: Sequence[Edit]) -> str:
    """Apply edits to a text. Two may take the same comma."""
    parts, at = [], 0
    for start, stop, new in sorted(edits):
        parts += [text[at:start], new]
        at = max(at, stop)
    return "".join(parts) + text[at:]


def _edits(source: Source, statement: Statement, span: Span, question: Question) -> Iterator[Edit]:
    is_off = statement.number in question.off
    if is_off and not _has_its_lines(source, span):
        yield _removal(source, span)
        return
    for bound in statement.bounds:
        if bound.number in question.bounds:
            start, stop = source.reach(bound.span)
            yield start, stop, question.bounds[bound.number]
    if is_off:
        for line in range(span.line, span.end_line + 1):
            start = source.offset(line, 1)
            at = start + _indent(source.text[start:])
            yield at, at, "# "


def _indent(text: str) -> int:
    """Count the blanks that a text begins with."""
    return next((at for at, character in enumerate(text) if character not in " \t"), len(text))


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
    _, stop = source.reach(found.span)
    brace = stop - 1  # a search has a body, or it is a mistake
    begin = source.text.rfind("\n", 0, brace) + 1
    if source.text[begin:brace].strip():
        yield brace, brace, f"\n{lines}"
    else:
        yield begin, begin, lines
