"""Regions of a file that the parser could not read. The checker reports no mistakes that only follow from a syntax error.

A syntax error can hide a declared name, a part of a body or arguments of a call. Near one, the checker suppresses
diagnostics that such a loss would cause. The rest of the file is checked as usual.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

from puzzledsl.base.diagnostics import Diagnostic, Span
from puzzledsl.base.frozen import record
from puzzledsl.base.suggest import closest
from puzzledsl.language.kinds import KINDS
from puzzledsl.syntax import tree

_DECLARING = (*KINDS, "param", "let", "fn")


@record
class SyntaxErrorRegions:
    """Lines and line ranges of syntax errors.

    `lines` are the lines of the primary spans. Each range of `ranges` also covers an error's secondary spans, such as
    the open brace.
    """

    lines: frozenset[int] = frozenset()
    ranges: tuple[tuple[int, int], ...] = ()

    @classmethod
    def of(cls, mistakes: Iterable[Diagnostic]) -> SyntaxErrorRegions:
        """Return the regions of one file's syntax diagnostics."""
        lines: set[int] = set()
        ranges: set[tuple[int, int]] = set()
        for mistake in mistakes:
            if mistake.span is None:
                continue
            lines.update(range(mistake.span.line, mistake.span.end_line + 1))
            spans = [mistake.span, *(label.span for label in mistake.secondary)]
            ranges.add((min(s.line for s in spans), max(s.end_line for s in spans)))
        return cls(frozenset(lines), tuple(sorted(ranges)))

    def touches(self, span: Span, margin: int = 0) -> bool:
        """Return True if a syntax error lies within a span or within `margin` lines of it."""
        first, last = span.line - margin, span.end_line + margin
        return any(start <= last and first <= end for start, end in self.ranges)


def declares_unread(name: str, lines: list[str], module: tree.Module, regions: SyntaxErrorRegions) -> bool:
    """Return True if the text seems to declare `name` in a part that the parser lost. Uses of `name` are then not reported."""
    if not module.broken:
        return False
    word = re.compile(rf"\b{re.escape(name)}\b")
    shown = [lines[n - 1] for n in sorted(regions.lines) if n <= len(lines)]
    if any(word.search(line) for line in shown):
        return True
    head = re.compile(rf"\s*(\w+)\s+{word.pattern}")
    heads = [m.group(1) for line in lines if name in line and (m := head.match(line))]
    if any(map(_may_declare, heads)):
        return True
    used = re.compile(rf"\s*use\b.*{word.pattern}")
    return any(used.match(line) for line in lines if name in line)


@lru_cache(maxsize=1024)
def _may_declare(head: str) -> bool:
    """Return True for a word that declares, or nearly does. The same words are asked about at every keystroke."""
    return head in _DECLARING or closest(head, _DECLARING) is not None


def may_declare_any(lines: list[str], module: tree.Module, regions: SyntaxErrorRegions) -> bool:
    """Return True if an unknown number of names was lost: by a broken `use` or by a declaration without a name."""
    shown = [lines[n - 1] for n in regions.lines if n <= len(lines)]
    if any('.pzl"' in line or re.match(r"\s*use\b", line) for line in shown):
        return True
    return module.broken and any(
        not item.name.text for item in module.items if not isinstance(item, tree.Use | tree.Assert)
    )
