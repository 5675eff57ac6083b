"""Boxes of batch sizes: an interval for each scenario of a search, and bounds on the latency over an interval.

Branch and bound over boxes (Land & Doig 1960) finds the best batches without trying each. The relaxed problem of a box bounds
all models at all batches inside; a box that may contain a better model is split.

Let x(b) be the exact time of one sub-block in a prefill or decode step of b sequences (`costs.roofline`), and c(b) = ceil(x(b))
the nanoseconds in the tables. With n = b tokens (or b * prompt), x is the sum of

    max(P * share(n) * bytes / BW, 2 P n / F)            matrices; share(n) = 1 - (1 - k / E)^n of a mixture's experts, else 1
    b * constant                                          attention, states
    constant + n * constant                               overhead and the exchange between GPUs

Each term does not decrease with b, and divided by b does not increase (`costs.memory` shows it of the share); max and +
preserve both properties, so x has them, too. Hence for low <= b <= high

    c(low)              <=  c(b)      <=  c(high)
    (c(high) - 1) / high <  c(b) / b  <  (c(low) + 1) / low

since x(high) > c(high) - 1 and c(b) < x(b) + 1 <= b x(low) / low + 1. A sub-block that takes no time takes none at any batch.
Sums over layers keep all of this, so that `throughput = batch * output / latency` is bounded where latency / batch is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import isqrt

from puzzledsl.ir.metric_records import METRICS
from puzzledsl.ir.tables import Cost


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
        middle = isqrt(self.low[place] * self.high[place])

        def put(values: tuple[int, ...], value: int) -> tuple[int, ...]:
            return (*values[:place], value, *values[place + 1 :])

        return replace(self, high=put(self.high, middle)), replace(self, low=put(self.low, middle + 1))


def latency_each(output: int, low: Cost, high: Cost) -> tuple[int, int]:
    """Return (least, most) latency of a sub-block in ns: least / high and most / low bound latency / batch in between."""
    least = most = 0
    for name, often in METRICS["latency"].of_costs.items():
        at_low, at_high = getattr(low, name), getattr(high, name)
        times = 1 if often == "once" else output
        least, most = least + times * max(at_low, at_high - 1), most + times * (at_low + (at_low > 0))
    return least, most
