"""Boxes of batch sizes: an interval for each scenario of a search.

Branch and bound over boxes (Land & Doig 1960) finds the best batches without trying each. The relaxed problem of a box bounds
all models at all batches inside; a box that may contain a better model is split.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isqrt


@dataclass(frozen=True, slots=True)
class Box:
    """Intervals of batch sizes, from `low` to `high` inclusive, one for each of `scenarios`."""

    scenarios: tuple[str, ...]
    low: tuple[int, ...]
    high: tuple[int, ...]

    @classmethod
    def at(cls, batches: Mapping[str, int]) -> Box:
        """Return the single box of these batches."""
        return cls(tuple(batches), tuple(batches.values()), tuple(batches.values()))

    @property
    def is_single(self) -> bool:
        """True if every scenario has exactly one batch."""
        return self.low == self.high

    @property
    def lows(self) -> dict[str, int]:
        """The smallest batch of each scenario."""
        return dict(zip(self.scenarios, self.low, strict=True))

    def of(self, scenario: str) -> tuple[int, int]:
        """Return (low, high) of one scenario."""
        place = self.scenarios.index(scenario)
        return self.low[place], self.high[place]

    def has(self, batches: Mapping[str, int]) -> bool:
        """True if the box contains these batches."""
        inside = zip(self.scenarios, self.low, self.high, strict=True)
        return all(low <= batches[name] <= high for name, low, high in inside)

    def halves(self) -> tuple[Box, Box]:
        """Split the box at the geometric mean of the side with the largest ratio high / low. The box must not be single."""
        place = max(range(len(self.low)), key=lambda i: self.high[i] / self.low[i])
        low, high = self.low[place], self.high[place]
        middle = isqrt(low * high)

        def put(values: tuple[int, ...], value: int) -> tuple[int, ...]:
            return (*values[:place], value, *values[place + 1 :])

        return Box(self.scenarios, self.low, put(self.high, middle)), Box(
            self.scenarios, put(self.low, middle + 1), self.high
        )
