"""What partial models are held to: every row, and the goal priced in many ways, each a sum over layers with a limit.

An answer whose goal is at most `most` meets every row, so it meets each priced goal too: goal + prices . rows <= most + prices .
limits. Each free layer's least value is taken out, so every sum only grows along the free layers; along the stages of a decision
diagram the least value of what is still to come from a state is added instead. So a partial model above a limit is in no such
answer. All numbers are exact integers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from puzzledsl.search.bound import Bound, precision
from puzzledsl.search.instance import Ints, Mask, Problem
from puzzledsl.search.interior import Floats
from puzzledsl.search.paths import paths_of

# How far prices are varied, in logarithms: what is left of the budgets after some layers has other best prices.
SPREADS = (0.1, 0.3)


@dataclass(frozen=True, slots=True, eq=False)
class Meters:
    """`deltas[meter][column]`, least 0 in every free layer; `limits[meter]` at `most`. The first `rows` meters are rows, the
    others priced goals, the most telling first; of those `scales[i]` is what one of the goal is, and `prices[i][row]` what one
    of each row is. `to_end[stage][meter][state]`: the least that the stages from there on add; empty without a diagram.
    """

    deltas: Ints
    limits: Ints
    rows: int
    scales: Ints
    most: int
    prices: Ints
    to_end: list[Ints]

    @property
    def room(self) -> Ints:
        """What the free layers may add to each meter, at most."""
        return np.asarray(self.limits - self.to_end[0][:, 0] if self.to_end else self.limits)

    def ahead(self, stage: int, states: Ints) -> Ints | int:
        """[meter][state]: the least that the stages still to come add."""
        return self.to_end[stage].take(states, axis=1) if stage < len(self.to_end) - 1 else 0

    @property
    def weights(self) -> Ints:
        """What one of each row is in the first priced goal."""
        return np.asarray(self.prices[0])

    def at(self, most: int) -> Meters:
        """With answers sought whose goal is at most this."""
        limits = self.limits.copy()
        limits[self.rows :] -= self.scales * (self.most - most)
        return replace(self, limits=limits, most=most)

    def first(self, number: int) -> Meters:
        """The rows, and the priced goals that tell most."""
        end = self.rows + number
        return replace(
            self,
            deltas=self.deltas[:end],
            limits=self.limits[:end],
            scales=self.scales[:number],
            prices=self.prices[:number],
            to_end=[table[:end] for table in self.to_end],
        )

    def least_goal(self, sums: Ints) -> Ints:
        """A bound on the goal of every answer that each partial model, [meter][model], is part of: sums with what is ahead."""
        room = (self.limits[self.rows :, None] - sums[self.rows :]) // self.scales[:, None]
        return np.asarray(self.most - room.min(axis=0))


def meters_of(problem: Problem, bound: Bound, most: int) -> Meters | None:
    """The meters of a problem at and around its best prices; None where 64 bits are too few for them."""
    columns, paths = problem.columns, paths_of(problem)
    free = np.ones(columns.layers, dtype=np.bool_)
    free[list(paths.diagram.order) if paths is not None else []] = False
    deltas, limits, kept = [], [], []
    for number, (row, limit) in enumerate(zip(problem.matrix, problem.limits.tolist(), strict=True)):
        lifted, floor = _lifted(problem, row, free)
        if (
            bound.prices[number] or int(columns.most(lifted).sum()) > limit - floor
        ):  # else every model meets it
            deltas.append(lifted)
            limits.append(limit - floor)
            kept.append(number)
    rows = len(deltas)
    prices = np.array([*_variations(bound.float_prices)])
    bits, fits = precision(problem, prices)
    prices, scales = prices[fits], 1 << bits[fits]
    if not len(prices):
        return None
    whole = np.rint(prices * scales[:, None]).astype(np.int64)  # a power of two times a float is exact
    priced = problem.goal.values * scales[:, None] + whole @ problem.matrix
    least = np.where(free, columns.least(priced), 0)
    priced -= np.repeat(least, columns.sizes, axis=1)
    ends = scales * most + whole @ problem.limits - least.sum(axis=1)
    values = np.vstack([*deltas, priced])
    return Meters(
        values,
        np.concatenate([limits, ends]).astype(np.int64),
        rows,
        scales,
        most,
        whole[:, np.array(kept, dtype=np.int64)],
        [] if paths is None else paths.to_end(paths.least(values)),
    )


def _variations(prices: Floats) -> Iterator[Floats]:
    """The prices, then each one made larger or smaller in patterns that are all different (Hadamard's)."""
    yield prices
    priced = prices.nonzero()[0]
    signs = np.ones((1, 1))
    while len(signs) <= len(priced):
        signs = np.block([[signs, signs], [signs, -signs]])
    patterns = signs[:, 1 : len(priced) + 1]
    if len(priced):
        for spread in SPREADS:
            for pattern in (*patterns, *-patterns):
                varied = prices.copy()
                varied[priced] *= np.exp(spread * pattern)
                yield varied


def _lifted(problem: Problem, values: Ints, free: Mask) -> tuple[Ints, int]:
    """Values with each free layer's least one taken out, and the sum of those."""
    least = np.where(free, problem.columns.least(values), 0)
    return values - np.repeat(least, problem.columns.sizes), int(least.sum())
