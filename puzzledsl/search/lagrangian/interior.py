"""Predictor-corrector interior-point method (Mehrotra 1992) for linear relaxations with few rows.

    minimise cost . x + DEAREST * excess
    where each layer's x add up to 1,   rows . x + spare - excess = limits,   x, spare, excess >= 0

Each step solves one system with as many equations as there are rows; the layers' equations are eliminated in closed form. All
numbers are floats of about 1. `bound.certify` turns the resulting prices into an exact bound, however imprecise they are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from puzzledsl.search.problem.columns import Floats, Ints, Mask

STEPS = 50
CLOSE = 1e-7  # relative duality gap at which to stop
TINY = 1e-3  # added to the bound's absolute value, so that a bound near 0 does not prevent stopping
DEAREST = 1e4  # upper bound on prices; the excess variables make every problem feasible
FIRST_LIFT = 0.3  # the first point's distance inside, in mean slacks of its layer and of all layers


@dataclass(slots=True, eq=False)
class Relaxation:
    """Linear relaxation. `rows` is [rows][columns]; layer l owns `sizes[l]` columns from `start[l]` on."""

    cost: Floats
    rows: Floats
    limits: Floats
    start: Ints
    sizes: Ints

    def sums(self, values: Floats) -> Floats:
        """Sum over each layer's columns, [..., columns] -> [..., layers]."""
        return np.asarray(np.add.reduceat(values, self.start, axis=-1))

    def least(self, values: Floats) -> Floats:
        """Return the least value of each layer's columns, [columns] -> [layers]."""
        return np.asarray(np.minimum.reduceat(values, self.start))

    def spread(self, values: Floats) -> Floats:
        """Repeat each layer's value for its columns, [layers] -> [columns]."""
        return np.repeat(values, self.sizes)

    def reduced(self, prices: Floats) -> Floats:
        """Return each column's cost plus its priced rows, [columns]."""
        return np.asarray(self.cost + prices @ self.rows)

    def bound(self, prices: Floats) -> float:
        """Return the Lagrangian bound at these prices."""
        return float(self.least(self.reduced(prices)).sum() - prices @ self.limits)

    def only(self, keep: Mask) -> Relaxation:
        """Return the relaxation on the columns in `keep`, which must have at least one of every layer."""
        sizes = np.add.reduceat(keep.astype(np.int64), self.start)
        start = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64)
        return Relaxation(self.cost[keep], self.rows[:, keep], self.limits, start, sizes)


class Point(NamedTuple):
    """Primal-dual point: primal `x`, `spare`, `excess`; dual `y` (by layer) and `prices`; and dual slacks.

    The slacks are `z = cost + prices . rows - y` and `below = DEAREST - prices`.
    """

    x: Floats
    spare: Floats
    excess: Floats
    y: Floats
    prices: Floats
    z: Floats
    below: Floats

    def gap(self) -> float:
        """Return the sum of all complementarity products, which is the duality gap if the point is feasible."""
        return float(self.x @ self.z + self.spare @ self.prices + self.excess @ self.below)

    def moved(self, by: Point, primal: float, dual: float) -> Point:
        """Return the point after a step of length `primal` in primal and `dual` in dual variables."""
        lengths = (primal,) * 3 + (dual,) * 4
        return Point(*(own + length * step for own, step, length in zip(self, by, lengths, strict=True)))


def solve_relaxation(relaxation: Relaxation, prices: Floats) -> Floats:
    """Return the prices of the best bound found, starting from the guess `prices`."""
    at = _start(relaxation, prices)
    best, highest = prices, relaxation.bound(prices)
    with np.errstate(all="ignore"):  # a variable that reaches 0 gives infinities, which end the iteration
        for _ in range(STEPS):
            at = _step(relaxation, at)
            if not np.isfinite(at.prices).all() or float(at.prices.min()) < 0:
                break
            value = relaxation.bound(at.prices)
            if value > highest:
                highest, best = value, at.prices
            if not at.gap() > CLOSE * (abs(value) + TINY):
                break
    return best


def _start(relaxation: Relaxation, guess: Floats) -> Point:
    """Return an interior start: equal x within each layer, and prices near the guess."""
    x = relaxation.spread(1.0 / relaxation.sizes)
    prices = np.clip(guess, max(0.1 * float(guess.max(initial=0.0)), 1e-6), DEAREST / 2)
    reduced = relaxation.reduced(prices)
    y = relaxation.least(reduced)
    slack = reduced - relaxation.spread(y)
    y = y - FIRST_LIFT * (relaxation.sums(slack) / relaxation.sizes + slack.mean()) - 1e-9
    z = reduced - relaxation.spread(y)
    middle = float(x @ z) / len(x)
    below = DEAREST - prices
    excess = middle / below
    spare = np.maximum(relaxation.limits - relaxation.rows @ x + excess, middle / prices)
    return Point(x, spare, excess, y, prices, z, below)


def _step(relaxation: Relaxation, at: Point) -> Point:
    """Take one step: the affine predictor determines the centring, and the corrector step uses it with second-order terms."""
    solve = _solver(relaxation, at)
    straight = solve(-at.x * at.z, -at.spare * at.prices, -at.excess * at.below)
    gap = at.gap()
    ahead = max(at.moved(straight, *_longest(at, straight)).gap(), 0.0)
    target = gap / (len(at.x) + 2 * len(at.prices)) * min(1.0, (ahead / gap) ** 3)
    move = solve(
        target - at.x * at.z - straight.x * straight.z,
        target - at.spare * at.prices - straight.spare * straight.prices,
        target - at.excess * at.below - straight.excess * straight.below,
    )
    primal, dual = _longest(at, move)
    share = max(0.9, 1.0 - 2.0 * gap)
    return at.moved(move, share * primal, share * dual)


def _longest(at: Point, by: Point) -> tuple[float, float]:
    """Return the longest primal and dual step lengths, up to 1, that keep all variables non-negative."""

    def longest(*pairs: tuple[Floats, Floats]) -> float:
        steepest = max(float((-step / value).max()) for value, step in pairs)
        return 1.0 if not steepest > 1.0 else 1.0 / steepest

    primal = longest((at.x, by.x), (at.spare, by.spare), (at.excess, by.excess))
    return primal, longest((at.z, by.z), (at.prices, by.prices), (at.below, by.below))


def _solver(relaxation: Relaxation, at: Point) -> Callable[[Floats, Floats, Floats], Point]:
    """Return what gives the step that changes the complementarity products by given amounts, to first order."""
    ratio = at.x / at.z
    scaled = relaxation.rows * ratio
    weight, weighted = relaxation.sums(ratio), relaxation.sums(scaled)  # [layers], [rows][layers]
    matrix = scaled @ relaxation.rows.T - (weighted / weight) @ weighted.T  # of the normal equations
    matrix[np.diag_indices(len(matrix))] += at.spare / at.prices + at.excess / at.below
    missing = 1.0 - relaxation.sums(at.x)  # primal residuals of the layers' sums, then of the rows
    short = relaxation.limits - relaxation.rows @ at.x - at.spare + at.excess
    off = relaxation.reduced(at.prices) - relaxation.spread(at.y) - at.z  # dual residuals

    def solve(columns: Floats, spares: Floats, excesses: Floats) -> Point:
        free = columns / at.z - ratio * off
        rest = (missing - relaxation.sums(free)) / weight
        right = relaxation.rows @ free + weighted @ rest - short
        right += spares / at.prices - excesses / at.below
        try:
            prices: Floats = np.linalg.solve(matrix, right).astype(np.float64)
        except np.linalg.LinAlgError:
            prices = np.linalg.lstsq(matrix, right, rcond=None)[0].astype(np.float64)
        y = rest + (prices @ weighted) / weight
        z = off - relaxation.spread(y) + prices @ relaxation.rows
        return Point(
            x=(columns - at.x * z) / at.z,
            spare=(spares - at.spare * prices) / at.prices,
            excess=(excesses + at.excess * prices) / at.below,
            y=y,
            prices=prices,
            z=z,
            below=-prices,
        )

    return solve
