"""Places for the names of marks in a picture: the first side of a mark on which its name covers the least."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Literal, get_args

Side = Literal["right", "left", "below", "above"]
Place = tuple[float, float]
"""0 to 1 in both directions, y upwards."""
WIDTH_PX, HEIGHT_PX = 754.0, 300.0
"""Size of the picture on the page."""
LETTER_PX, LINE_PX, GAP_PX, MARK_PX = 6.8, 16.0, 12.0, 6.0
"""A name's letter and line, its distance from the mark, and half of a mark."""
SAMPLES = 60
"""Places along a line that a name may cover."""


def side_of(name: str, mark: Place, others: Sequence[Place], lines: Sequence[Sequence[Place]] = ()) -> Side:
    """The side of `mark` on which `name` covers the fewest `others` and the least of `lines`; in the picture if any side is."""
    obstacles = [(x * WIDTH_PX, y * HEIGHT_PX) for x, y in [*others, *_along(lines)]]
    sides: tuple[Side, ...] = get_args(Side)

    def badness(side: Side) -> tuple[bool, int]:
        left, bottom, right, top = _box(name, mark, side)
        outside = left < 0 or bottom < -MARK_PX or right > WIDTH_PX or top > HEIGHT_PX + MARK_PX
        return outside, sum(
            left - MARK_PX < x < right + MARK_PX and bottom - MARK_PX < y < top + MARK_PX
            for x, y in obstacles
        )

    return min(sides, key=badness)


def _box(name: str, mark: Place, side: Side) -> tuple[float, float, float, float]:
    """Left, bottom, right and top of a name, in pixels."""
    x, y, width = mark[0] * WIDTH_PX, mark[1] * HEIGHT_PX, LETTER_PX * len(name)
    left = {"right": x + GAP_PX, "left": x - GAP_PX - width}.get(side, x - width / 2)
    bottom = {"above": y + GAP_PX, "below": y - GAP_PX - LINE_PX}.get(side, y - LINE_PX / 2)
    return left, bottom, left + width, bottom + LINE_PX


def _along(lines: Sequence[Sequence[Place]]) -> Iterator[Place]:
    for line in lines:
        for (x0, y0), (x1, y1) in pairwise(line):
            for step in range(1, SAMPLES):
                yield x0 + (x1 - x0) * step / SAMPLES, y0 + (y1 - y0) * step / SAMPLES
