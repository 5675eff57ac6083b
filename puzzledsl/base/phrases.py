"""Phrases in messages: lists of words, layers as ranges, tables with aligned columns, durations, spelling suggestions.

Spelling suggestions ("did you mean …?") come from one function, `closest`, so that all stages suggest alike.
"""

from collections.abc import Iterable, Iterator, Sequence

from puzzledsl.base.diagnostics import Near


def aligned(rows: Sequence[Sequence[str]], sides: str = "<", indent: str = "") -> Iterator[str]:
    """Yield rows as lines of columns two blanks apart, each line after `indent`.

    `sides`: one sign a column, `<` aligns it left, `>` right; the last sign holds for all further columns.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    sides = sides.ljust(len(widths), sides[-1])
    for row in rows:
        cells = zip(row, sides, widths, strict=True)
        yield indent + "  ".join(f"{cell:{side}{width}}" for cell, side, width in cells).rstrip()


def listed(words: Iterable[object], last: str = "and") -> str:
    """Return at least one word as a list: `a`, `a and b`, `a, b and c`. `last` is the conjunction before the last word."""
    *others, end = map(str, words)
    return f"{', '.join(others)} {last} {end}" if others else end


def layers_in_words(layers: Sequence[int]) -> str:
    """Return ascending layers as text: `layer 3`, `layers 2..9, 41`."""
    return ("layer " if len(layers) == 1 else "layers ") + ranges(layers)


def ranges(layers: Sequence[int]) -> str:
    """Return ascending layers as ranges: `0..1, 79`; with `by` for three or more at equal distances: `41..77 by 2`."""
    parts: list[str] = []
    at = 0
    while at < len(layers):
        last, step = at, 1
        if at + 1 < len(layers):
            step = layers[at + 1] - layers[at]
            while last + 1 < len(layers) and layers[last + 1] - layers[last] == step:
                last += 1
        if step > 1 and last - at < 2:  # two layers apart are no series
            last, step = at, 1
        ends = f"{layers[at]}" if last == at else f"{layers[at]}..{layers[last]}"
        parts.append(ends if step == 1 else f"{ends} by {step}")
        at = last + 1
    return ", ".join(parts)


def closest(name: str, candidates: Iterable[str]) -> Near | None:
    """Return the candidate that a misspelt `name` most likely means, or None if none is near enough.

    Letter case and `_`/`-` are ignored; swapping two neighbours counts as one slip. One slip is allowed in a name
    of up to four letters, two up to eight, three beyond. The first candidate wins a tie, and is then not `alone`. A single
    candidate that starts with `name_` comes first, `h100_sxm` for `h100`, unless another has one letter more or less.
    """
    candidates = list(candidates)
    longer = [c for c in candidates if len(name) > 2 and c.startswith(f"{name}_")]
    nearly = (_fold(c) for c in candidates if c != name and len(_fold(c)) != len(_fold(name)))
    alike = {_fold(name), *(c for c in nearly if _distance(c, _fold(name)) <= 1)}
    if len(longer) == 1 and not any(_fold(c) in alike for c in candidates if c != name):
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
    if best is None:
        return None
    rest = name.removeprefix(best) if name.startswith(best) else name.removesuffix(best)
    # `layers3` may be `layers[3]`, `wide2` another space, `notlayers` two words
    glued = rest != name and (rest.isdigit() or len(rest) > 1)
    return Near(best, alone=alone and not glued)


def _fold(name: str) -> str:
    return name[:64].lower().replace("_", "").replace("-", "")


def _distance(a: str, b: str) -> int:
    """Return the optimal string alignment distance: least number of inserts, deletes, replacements and swaps of neighbours."""
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


def duration(seconds: float) -> str:
    """Format a duration to about two digits: `8 s`, `12 min`, `3.5 h`, `4 days`."""
    if seconds < 1:
        return "< 1 s"
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 100 * 60:
        return f"{seconds / 60:.0f} min"
    hours = seconds / 3600
    return f"{hours:.1f} h" if hours < 48 else f"{hours / 24:.0f} days"
