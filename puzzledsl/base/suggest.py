"""Spelling suggestions ("did you mean …?"), by one function, so that all stages suggest alike."""

from __future__ import annotations

from collections.abc import Iterable

from puzzledsl.base.diagnostics import Near


def closest(name: str, candidates: Iterable[str]) -> Near | None:
    """Return the candidate that a misspelt `name` most likely means, or None if none is near enough.

    Letter case and `_`/`-` are ignored; swapping two neighbours counts as one slip. One slip is allowed in a name
    of up to four letters, two up to eight, three beyond. The first candidate wins a tie, and is then not
    `alone`. A single candidate that starts with `name_` comes first: `h100_sxm` for `h100`.
    """
    candidates = list(candidates)
    longer = [c for c in candidates if len(name) > 2 and c.startswith(f"{name}_")]
    if len(longer) == 1 and not any(_fold(c) == _fold(name) for c in candidates if c != name):
        return Near(longer[0], alone=False)
    best: str | None = None
    alone = True
    folded = _fold(name)
    budget = 1 if len(folded) <= 4 else 2 if len(folded) <= 8 else 3
    least = budget + 1
    for candidate in candidates:
        target = _fold(candidate)
        if candidate in (name, best) or abs(len(target) - len(folded)) > least:
            continue
        slips = _distance(folded, target)
        # A one-letter name is one slip from every other: that is no likeness.
        if slips > min(least, budget) or slips >= max(len(folded), len(target)) - 1 + (slips == 0):
            continue
        if slips < least:
            best, least, alone = candidate, slips, True
        else:
            alone = False
    return None if best is None else Near(best, alone=alone)


def _fold(name: str) -> str:
    return name[:64].lower().replace("_", "").replace("-", "")


def _distance(a: str, b: str) -> int:
    """The optimal string alignment distance: insert, delete, replace, swap neighbours."""
    before: list[int] = []
    last = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        row = [i]
        for j, y in enumerate(b, 1):
            cost = min(last[j] + 1, row[j - 1] + 1, last[j - 1] + (x != y))
            if i > 1 and j > 1 and x == b[j - 2] and a[i - 2] == y:
                cost = min(cost, before[j - 2] + 1)
            row.append(cost)
        before, last = last, row
    return last[-1]
