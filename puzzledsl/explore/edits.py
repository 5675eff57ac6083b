"""A question as an edit of the program's text: bounds replaced, statements commented out, choices added as requirements.

The text that comes out is what `pzl fmt` writes.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from puzzledsl.base.diagnostics import Edit, Fix, Span
from puzzledsl.base.fixes import apply
from puzzledsl.explore.question import Question
from puzzledsl.explore.statements import Source, Statement
from puzzledsl.syntax.format import format_source


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
    text = source.file.text
    after, before = format_source(apply(text, [Fix("", tuple(edits))])), format_source(text)
    changes = difflib.ndiff(before.splitlines(), after.splitlines())
    name, lines = Path(source.file.file).name, (text.splitlines(), after.splitlines())
    diff = difflib.unified_diff(*lines, name, f"{name}, saved", n=2, lineterm="")
    return Edited(after, tuple(line[2:] for line in changes if line.startswith("+ ")), tuple(diff))


def _edits(source: Source, statement: Statement, question: Question) -> Iterator[Edit]:
    """Yield the edits of a statement. One that is left out is commented out where it has its lines for itself."""
    if statement.node is None:
        return
    span, lines = statement.node.span, source.file.lines
    before, after = lines[span.line - 1][: span.column - 1], lines[span.end_line - 1][span.end_column - 1 :]
    rest = after.lstrip(" \t,")
    is_off = statement.number in question.off
    if is_off and (before.strip() or (rest and not rest.startswith("#"))):
        start, stop = len(before) + 1, span.end_column  # with the comma before it, else the one after
        if before.rstrip(" \t").endswith(","):
            start = len(before.rstrip(" \t"))
        else:
            blanks = _indent(after)
            stop += blanks + (after[blanks : blanks + 1] == ",")
        yield Edit(Span(span.file, span.line, start, span.end_line, stop), "")
        return
    for bound in statement.bounds:
        if bound.number in question.bounds:
            yield Edit(bound.span, question.bounds[bound.number])
    for line in range(span.line, span.end_line + 1) if is_off else ():
        column = _indent(lines[line - 1]) + 1
        yield Edit(Span(span.file, line, column, line, column), "# ")


def _indent(text: str) -> int:
    """Count the blanks that a text begins with."""
    return len(text) - len(text.lstrip(" \t"))


def _added(source: Source, search: str, choices: Sequence[str]) -> Iterator[Edit]:
    """Add requirements at the end of a search's body."""
    found = source.search(search)
    if not choices or found is None:
        return
    lines = "".join(f"  require {condition}\n" for condition in choices)
    end = found.span.end  # behind a `}`: a search has a body, or it is a mistake
    own_line = not source.file.lines[end.line - 1][: end.column - 2].strip()
    column = 1 if own_line else end.column - 1
    yield Edit(Span(end.file, end.line, column, end.line, column), lines if own_line else f"\n{lines}")
