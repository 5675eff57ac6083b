"""Resource limits on a label: the rows, and several priced objectives as surrogate constraints (Glover 1968).

An answer with an objective up to `most` satisfies every row, and so every priced objective, too:
    objective + prices . rows <= most + prices . limits.
For free layers, each layer's least value is subtracted, so every sum only grows along them. For the stages of a decision diagram,
the least completion from a state is added instead. So a label above a limit is part of no such answer. All numbers are exact
integers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from puzzledsl.search.lagrangian.bound import Bound, precision
from puzzledsl.search.problem.columns import Floats, Ints, Mask
from puzzledsl.search.problem.instance import Problem
from puzzledsl.search.problem.paths import paths_of

# Logarithmic variations of the prices: after some layers, other prices are best for the rest of the budgets.
SPREADS = (0.1, 0.3)
MOST_VARIED = 7  # prices that vary: the patterns of more would take more time a label than they save


@dataclass(frozen=True, slots=True, eq=False)
class Resources:
    """Resources of labels: the first `rows` are rows, the others priced objectives, most selective first.

    `deltas[resource][column]`: amount that a column adds, least 0 in every free layer. `limits[resource]`: for objectives up to
    `most`. `scales[i]` and `prices[i][row]`: weights in priced objective i. `to_end[stage][resource][state]`: least amount ahead.
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
        """Limit on the amount that the free layers add, [resource]; negative if there is no answer."""
        return np.asarray(self.limits - self.to_end[0][:, 0] if self.to_end else self.limits)

    def ahead(self, stage: int, states: Ints) -> Ints | int:
        """Return the least amounts that the stages from `stage` on add, [resource][model], for models in `states`."""
        return self.to_end[stage].take(states, axis=1) if stage < len(self.to_end) - 1 else 0

    @property
    def weights(self) -> Ints:
        """Weight of each row in the first priced objective, [rows]."""
        return np.asarray(self.prices[0])

    def at(self, most: int) -> Resources:
        """Return the resources with limits for objectives up to `most`."""
        limits = self.limits.copy()
        limits[self.rows :] -= self.scales * (self.most - most)
        return replace(self, limits=limits, most=most)

    def least_goal(self, sums: Ints) -> Ints:
        """Return lower bounds on the objective of completions, [model]; `sums` include the least amounts ahead."""
        room = (self.limits[self.rows :, None] - sums[self.rows :]) // self.scales[:, None]
        return np.asarray(self.most - room.min(axis=0))


def resources_of(problem: Problem, bound: Bound, most: int) -> Resources | None:
    """Build the resources of a problem at and around the bound's prices; None if they do not fit into 64 bits."""
    columns, paths = problem.columns, paths_of(problem)
    free = np.ones(columns.layers, dtype=np.bool_)
    free[list(paths.diagram.order) if paths is not None else []] = False
    deltas, limits, kept = [], [], []
    for number, (row, limit) in enumerate(zip(problem.matrix, problem.limits.tolist(), strict=True)):
        lifted, floor = _lifted(problem, row, free)
        # else every model meets it
        if bound.prices[number] or int(columns.most(lifted).sum()) > limit - floor:
            deltas.append(lifted)
            limits.append(limit - floor)
            kept.append(number)
    rows = len(deltas)
    prices = np.array([*variations(bound.float_prices, problem.row_sizes)])
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
    return Resources(
        values,
        np.concatenate([limits, ends]).astype(np.int64),
        rows,
        scales,
        most,
        whole[:, np.array(kept, dtype=np.int64)],
        [] if paths is None else paths.to_end(paths.least(values)),
    )


def variations(prices: Floats, sizes: Floats) -> Iterator[Floats]:
    """Yield the prices, then variations: each weighty one larger or smaller, in the sign patterns of a Hadamard matrix."""
    yield prices
    priced = prices.nonzero()[0]
    if len(priced) > MOST_VARIED:
        priced = np.sort(priced[np.argsort(-(prices * sizes)[priced], kind="stable")[:MOST_VARIED]])
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
    """Return values with each free layer's least one subtracted, and the sum of these least ones."""
    least = np.where(free, problem.columns.least(values), 0)
    return values - np.repeat(least, problem.columns.sizes), int(least.sum())
