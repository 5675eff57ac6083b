"""Boxes of batches: an interval for each scenario that a search mentions.

Branch and bound over boxes finds the best batches without trying each (Land & Doig 1960): a box has a relaxed problem, whose
bound holds for every model that runs at batches inside; a box that may have a better model is split.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isqrt


@dataclass(frozen=True, slots=True)
class Box:
    """From `low` to `high`, a batch a scenario, in the order of `scenarios`."""

    scenarios: tuple[str, ...]
    low: tuple[int, ...]
    high: tuple[int, ...]

    @classmethod
    def at(cls, batches: Mapping[str, int]) -> Box:
        """The box of these batches alone."""
        return cls(tuple(batches), tuple(batches.values()), tuple(batches.values()))

    @property
    def is_single(self) -> bool:
        """True where there is one batch for each scenario."""
        return self.low == self.high

    @property
    def lows(self) -> dict[str, int]:
        """The smallest batch of each scenario: its only one, in a single box."""
        return dict(zip(self.scenarios, self.low, strict=True))

    def of(self, scenario: str) -> tuple[int, int]:
        """The interval of one scenario."""
        place = self.scenarios.index(scenario)
        return self.low[place], self.high[place]

    def has(self, batches: Mapping[str, int]) -> bool:
        """True where all of these batches are inside."""
        inside = zip(self.scenarios, self.low, self.high, strict=True)
        return all(low <= batches[name] <= high for name, low, high in inside)

    def halves(self) -> tuple[Box, Box]:
        """The box split in two along its relatively longest side; not of a single box."""
        place = max(range(len(self.low)), key=lambda i: self.high[i] / self.low[i])
        low, high = self.low[place], self.high[place]
        middle = isqrt(low * high)

        def put(values: tuple[int, ...], value: int) -> tuple[int, ...]:
            return (*values[:place], value, *values[place + 1 :])

        return Box(self.scenarios, self.low, put(self.high, middle)), Box(
            self.scenarios, put(self.low, middle + 1), self.high
        )
