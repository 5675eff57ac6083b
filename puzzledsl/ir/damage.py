"""What the parser could not read of a file, so that the checker does not report again what follows from it.

A mistake in the text hides more than it says: a name that was to be declared, a part of a body, arguments of a call. What
lies near one is therefore judged with care; the rest of the file is judged as ever.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from puzzledsl.diagnostics import Diagnostic, Span
from puzzledsl.lang import tree
from puzzledsl.lang.kinds import KINDS
from puzzledsl.suggest import closest

_DECLARING = (*KINDS, "param", "let", "fn")


@dataclass(frozen=True, slots=True)
class Damage:
    """`lines` are where a mistake of the text is shown; `ranges` reach from each to what it is about (an open brace)."""

    lines: frozenset[int] = frozenset()
    ranges: tuple[tuple[int, int], ...] = ()

    @classmethod
    def of(cls, mistakes: Iterable[Diagnostic]) -> Damage:
        """The damage that some diagnostics of one file tell of."""
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
        """Whether a mistake of the text reaches into a span, or within `margin` lines of it."""
        first, last = span.line - margin, span.end_line + margin
        return any(start <= last and first <= end for start, end in self.ranges)


def declares_unread(name: str, lines: list[str], module: tree.Module, damage: Damage) -> bool:
    """Whether the text seems to declare `name` although the parser lost it: uses of the name are no further mistake."""
    if not module.broken:
        return False
    word = re.compile(rf"\b{re.escape(name)}\b")
    shown = [lines[n - 1] for n in sorted(damage.lines) if n <= len(lines)]
    if any(word.search(line) for line in shown):
        return True
    head = re.compile(rf"\s*(\w+)\s+{word.pattern}")
    heads = [m.group(1) for line in lines if name in line and (m := head.match(line))]
    if any(h in _DECLARING or closest(h, _DECLARING) for h in heads):
        return True
    used = re.compile(rf"\s*use\b.*{word.pattern}")
    return any(used.match(line) for line in lines if name in line)


def may_declare_any(lines: list[str], module: tree.Module, damage: Damage) -> bool:
    """Whether names were lost that the text does not show: those of a `use` or a declaration without its name."""
    shown = [lines[n - 1] for n in damage.lines if n <= len(lines)]
    if any('.pzl"' in line or re.match(r"\s*use\b", line) for line in shown):
        return True
    return module.broken and any(
        not item.name.text for item in module.items if not isinstance(item, tree.Use | tree.Assert)
    )
