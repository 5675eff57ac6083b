"""Apply fixes to a text: all that do not overlap, each completely or not at all.

A fix is data on a diagnostic (`diagnostics.Fix`). The same data is used by `pzl check --fix` and an editor's code
actions.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import accumulate

from puzzledsl.base.diagnostics import Diagnostic, Edit, Fix, Span


def safe_fixes(diagnostics: Iterable[Diagnostic], file: str) -> list[tuple[Diagnostic, Fix]]:
    """Return the diagnostics with exactly one safe fix, if it edits only `file`, and the fix.

    Of several safe fixes the user must choose.
    """
    found = []
    for diagnostic in diagnostics:
        safe = [fix for fix in diagnostic.fixes if fix.safe and fix.edits]
        if len(safe) == 1 and all(edit.span.file == file for edit in safe[0].edits):
            found.append((diagnostic, safe[0]))
    return found


def compatible(fixes: Iterable[Fix]) -> list[Fix]:
    """Return the fixes that can be made together: of two that touch each other, the first.

    Two that make the very same edits are one.
    """
    taken: list[Edit] = []
    kept: list[Fix] = []
    for fix in fixes:
        if any(fix.edits == other.edits for other in kept):
            continue
        if not any(_touch(edit.span, other.span) for edit in fix.edits for other in taken):
            kept.append(fix)
            taken += fix.edits
    return kept


def apply(text: str, fixes: Iterable[Fix]) -> str:
    """Return the text with fixes made. They must be `compatible`, and of one file.

    Spans count lines that end in a line feed and columns in code points, as the parser does.
    """
    offsets = _Offsets(text)
    made = [edit for fix in fixes for edit in fix.edits]
    edits = sorted({(offsets.of(e.span.start), offsets.of(e.span.end), e.text) for e in made})
    out: list[str] = []
    at = 0
    for start, stop, replacement in edits:
        out += [text[at:start], replacement]
        at = max(stop, at)
    return "".join([*out, text[at:]])


class _Offsets:
    """Conversion of lines and columns to offsets in a text, clamped to its ends."""

    def __init__(self, text: str) -> None:
        lengths = [len(line) + 1 for line in text.split("\n")]
        self.starts = [0, *accumulate(lengths)]
        self.size = len(text)

    def of(self, place: Span) -> int:
        """Return the offset of the start of a span."""
        row = min(max(place.line - 1, 0), len(self.starts) - 2)
        return min(self.starts[row] + max(place.column - 1, 0), self.starts[row + 1] - 1, self.size)


def _touch(one: Span, other: Span) -> bool:
    """True where two spans share a character or an end: edits there would depend on their order."""
    begins = (one.line, one.column) <= (other.end_line, other.end_column)
    ends = (other.line, other.column) <= (one.end_line, one.end_column)
    return one.file == other.file and begins and ends
