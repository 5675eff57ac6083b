"""Parts of a shipped file: the declarations that a program uses, at their lines, with blank lines for the others.

Most of a short program's parsing would be of shipped profiles and parents that it does not name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_ITEM = re.compile(r"^(?:(?:let|fn|param)|[a-z]+)[ ]+([A-Za-z_]\w*)")
_WORD = re.compile(r"[A-Za-z_]\w*")


def excerpt(text: str, names: Iterable[str]) -> str | None:
    """Return a shipped file's text without the declarations that `names` do not need; None if it lacks one of them.

    Shipped files are formatted: a declaration begins at the left margin, and nothing else does but comments and closers.
    """
    lines = text.split("\n")
    parts = _parts(lines)
    wanted, queue = set(), list(names)
    while queue:
        name = queue.pop()
        if name in wanted:
            continue
        if name not in parts:
            return None
        wanted.add(name)
        words = _WORD.findall("\n".join(lines[slice(*parts[name])]))
        queue += parts.keys() & set(words)
    for name in parts.keys() - wanted:
        start, stop = parts[name]
        lines[start:stop] = [""] * (stop - start)
    return "\n".join(lines)


def _parts(lines: list[str]) -> dict[str, tuple[int, int]]:
    """Return the lines of each declaration, its comments included: from the first to behind the last."""
    starts = [(i, match.group(1)) for i, line in enumerate(lines) if (match := _ITEM.match(line))]
    begins = [_with_comments(lines, i) for i, _ in starts]
    ends = [*begins[1:], len(lines)]
    return {name: (begin, end) for (_, name), begin, end in zip(starts, begins, ends, strict=True)}


def _with_comments(lines: list[str], start: int) -> int:
    while start and lines[start - 1].startswith("#"):
        start -= 1
    return start
