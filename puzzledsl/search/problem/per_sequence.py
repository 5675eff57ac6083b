"""Bounds on a model's times for all batches of an interval, used by relaxed problems on a profile.

Let x(b) be the exact time of one sub-block in a prefill or decode step of b sequences (`costs.roofline`), and c(b) = ceil(x(b))
the nanoseconds in the tables. With n = b tokens (or b * prompt), x is the sum of

    max(P * share(n) * bytes / BW, 2 P n / F)            matrices; share(n) = 1 - (1 - k / E)^n of a mixture's experts, else 1
    b * constant                                          attention, states
    constant + n * constant                               overhead and the exchange between GPUs

Each term does not decrease with b, and divided by b does not increase (`costs.mixture` shows it of the share); max and +
preserve both properties, so x has them, too.
Hence for low <= b <= high

    c(low)              <=  c(b)      <=  c(high)
    (c(high) - 1) / high <  c(b) / b  <  (c(low) + 1) / low

since x(high) > c(high) - 1 and c(b) < x(b) + 1 <= b x(low) / low + 1. A sub-block that takes no time takes none at any batch.
Sums over layers keep all of this, so that `throughput = batch * output / latency` is bounded where latency / batch is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

from puzzledsl.ir.metric_records import METRICS, NANOSECOND
from puzzledsl.ir.tables import Cost
from puzzledsl.search.problem.coefficients import Coefficients, Vector


@dataclass(frozen=True, slots=True)
class TimeBounds:
    """Bounds on a time of a sub-block over an interval of batches, in nanoseconds.

    `least` and `most` are the times at the ends of the interval. `least_each / high` and `most_each / low` bound time / batch.
    """

    least: int
    most: int
    least_each: int
    most_each: int


def time_bounds(metric: str, output: int, low: Cost, high: Cost) -> TimeBounds:
    """Return the bounds for one sub-block, given its costs at the two ends. `output`: tokens generated for each sequence."""
    times = {field: 1 if often == "once" else output for field, often in METRICS[metric].of_costs.items()}
    prefill, decode = times.get("prefill_ns", 0), times.get("decode_ns", 0)

    def total(first: int, second: int) -> int:
        return prefill * first + decode * second

    def each(of: Callable[[int, int], int]) -> int:
        return total(of(low.prefill_ns, high.prefill_ns), of(low.decode_ns, high.decode_ns))

    return TimeBounds(
        least=total(low.prefill_ns, low.decode_ns),
        most=total(high.prefill_ns, high.decode_ns),
        least_each=each(lambda at_low, at_high: max(at_low, at_high - 1)),
        most_each=each(lambda at_low, _: at_low + (at_low > 0)),
    )


def bounded(
    coefficients: Coefficients,
    scenario: str,
    metric: str,
    ends: tuple[int, int],
    of: Callable[[TimeBounds], int],
) -> Vector:
    """Return `of(bounds)` as a linear function of the columns, in seconds. The scenario must have a profile."""
    profile = coefficients.tables.profiles[scenario]
    low, high = map(profile.costs, ends)
    output = profile.scenario.output

    def number(at_low: Cost, at_high: Cost) -> int:
        return of(time_bounds(metric, output, at_low, at_high))

    attention = {key: number(cost, high.attention[key]) for key, cost in low.attention.items()}
    ffn = {key: number(cost, high.ffn[key]) for key, cost in low.ffn.items()}
    constant = NANOSECOND * number(low.fixed, high.fixed)
    return Vector(coefficients.spread(profile.kinds, attention, ffn), NANOSECOND, constant)


def times_the_parents(
    coefficients: Coefficients, parent: Coefficients, scenario: str, metric: str, ends: tuple[int, int]
) -> Vector:
    """Return a lower bound on `time(b) / parent's time(b)` over an interval, as a linear function of the columns.

    For each sub-block it is the better of two: from time(b) >= least and parent(b) <= parent's most, or, per sequence, from
    time(b) / b > least_each / high and parent(b) / b < parent's most_each / low.
    """
    low, high = ends
    most = int(bounded(parent, scenario, metric, ends, lambda t: t.most).total() / NANOSECOND)
    most_each = int(bounded(parent, scenario, metric, ends, lambda t: t.most_each).total() / NANOSECOND)
    scale = most * most_each * high

    def share(bounds: TimeBounds) -> int:
        return max(bounds.least * most_each * high, bounds.least_each * low * most)

    vector = bounded(coefficients, scenario, metric, ends, share)
    return Vector(vector.values, Fraction(1, scale), vector.constant / NANOSECOND / scale)
