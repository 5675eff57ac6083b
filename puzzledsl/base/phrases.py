"""Lists in messages: words with a conjunction, layers as ranges, and rows as columns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence


def aligned(rows: Sequence[Sequence[str]], sides: str) -> Iterator[str]:
    """Yield rows as lines of columns two blanks apart. `sides`: `<` for each column to the left, `>` to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = zip(row, sides, widths, strict=True)
        yield "  ".join(f"{cell:{side}{width}}" for cell, side, width in cells).rstrip()


def listed(words: Iterable[object], last: str = "and") -> str:
    """Return words as a list: `a`, `a and b`, `a, b and c`. `last` stands before the last word."""
    *others, end = map(str, words)
    return f"{', '.join(others)} {last} {end}" if others else end


def layers_in_words(layers: Sequence[int]) -> str:
    """Return ascending layers as text: `layer 3`, `layers 2..9, 41`."""
    return ("layer " if len(layers) == 1 else "layers ") + ranges(layers)


def ranges(layers: Sequence[int]) -> str:
    """Return ascending layers as ranges: `0..1, 79`, and `41..77 by 2` for every second one."""
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
