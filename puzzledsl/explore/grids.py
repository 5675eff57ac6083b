"""Positions of a slider: multiples of a round step around a bound, in the unit that its program writes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

POSITIONS = 240
"""About so many positions has a slider."""
AROUND = Fraction(5, 2)
"""A slider goes from the bound divided by this to the bound times this, as far as the space reaches; farther where it reaches
nothing there."""
FEW = 200
"""A count that the space takes no more values of has them all."""


@dataclass(frozen=True, slots=True)
class Grid:
    """Numbers `(first + i) * step` for i from 0 to `last`. `decimals`: as many as these need."""

    first: int
    last: int
    step: Fraction
    decimals: int

    def nearest(self, value: Fraction) -> int:
        """Return the position that is nearest to a number."""
        return min(max(round(value / self.step) - self.first, 0), self.last)

    def number(self, position: int) -> str:
        """Return a position's number as it is written."""
        return f"{float((self.first + position) * self.step):.{self.decimals}f}"


def grid_of(value: Fraction, low: Fraction, high: Fraction, *, whole: bool) -> Grid:
    """Return the positions for a bound. `low` and `high`: what the space reaches. `whole`: only whole numbers make sense."""
    if whole and high - low <= FEW:
        ends = min(low, value), max(high, value)
    else:
        near, far = sorted((value / AROUND, value * AROUND)) if value else (low, high)
        ends = min(max(low, near), value), max(min(high, far), value)
        ends = low if ends[0] > high else ends[0], high if ends[1] < low else ends[1]
    step = _round_step((ends[1] - ends[0]) / POSITIONS or Fraction(abs(value) or 1, 100))
    if whole:
        step = Fraction(max(1, math.ceil(step)))
    first, last = math.floor(ends[0] / step), math.ceil(ends[1] / step)
    if ends[0] >= 0:
        first = max(first, 0)
    return Grid(first, max(last - first, 1), step, _decimals(step))


def _round_step(raw: Fraction) -> Fraction:
    """Return the least of 1, 2 and 5 times a power of ten that is not below `raw`."""
    power = Fraction(10) ** math.floor(math.log10(float(raw)))
    return next(power * m for m in (1, 2, 5, 10) if raw <= power * m)


def _decimals(step: Fraction) -> int:
    decimals = 0
    while (step * 10**decimals).denominator != 1:
        decimals += 1
    return decimals
