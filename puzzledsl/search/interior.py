"""A linear relaxation with few rows, by a predictor-corrector interior-point method.

    minimise cost . x + DEAREST * excess
    where each layer's x add up to 1,   rows . x + spare - excess = limits,   x, spare, excess >= 0

Each step is one system of as many equations as there are rows: a layer's own equation is eliminated by hand. All numbers are
floats of about 1; whatever prices come out, `bound.certify` makes an exact bound of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from puzzledsl.search.instance import Ints

Floats = NDArray[np.float64]
STEPS = 50
CLOSE = 1e-7  # of the gap between the primal and the dual, relative
TINY = 1e-3  # of a middling cost: gaps that are nothing whatever the bound
DEAREST = 1e4  # no price is above it: so there is always a primal point
FIRST_LIFT = 0.3  # of a layer's mean slack, and of all layers': how far the first point is inside


@dataclass(slots=True, eq=False)
class Relaxation:
    """`rows` is [rows][columns]; layer l owns `sizes[l]` columns from `start[l]`."""

    cost: Floats
    rows: Floats
    limits: Floats
    start: Ints
    sizes: Ints

    def sums(self, values: Floats) -> Floats:
        """Sums over each layer's columns, along the last axis."""
        return np.asarray(np.add.reduceat(values, self.start, axis=-1))

    def least(self, values: Floats) -> Floats:
        """The least of each layer's columns."""
        return np.asarray(np.minimum.reduceat(values, self.start))

    def spread(self, values: Floats) -> Floats:
        """Each layer's value for each of its columns."""
        return np.repeat(values, self.sizes)

    def reduced(self, prices: Floats) -> Floats:
        """Cost and priced rows of each column."""
        return np.asarray(self.cost + prices @ self.rows)

    def bound(self, prices: Floats) -> float:
        """The Lagrangian bound."""
        return float(self.least(self.reduced(prices)).sum() - prices @ self.limits)

    def only(self, keep: NDArray[np.bool_]) -> Relaxation:
        """Some of the columns; each layer keeps one at least."""
        sizes = np.add.reduceat(keep.astype(np.int64), self.start)
        start = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64)
        return Relaxation(self.cost[keep], self.rows[:, keep], self.limits, start, sizes)


@dataclass(slots=True, eq=False)
class Point:
    """Primal `x`, `spare`, `excess`; dual `y` (a layer) and `prices`; and what is left of their inequalities:
    `z = cost + prices . rows - y` and `below = DEAREST - prices`."""

    x: Floats
    spare: Floats
    excess: Floats
    y: Floats
    prices: Floats
    z: Floats
    below: Floats

    def gap(self) -> float:
        """The sum of all products of a variable and its inequality: the duality gap of a feasible point."""
        return float(self.x @ self.z + self.spare @ self.prices + self.excess @ self.below)

    @property
    def size(self) -> int:
        """How many products there are."""
        return len(self.x) + 2 * len(self.prices)

    def moved(self, by: Point, primal: float, dual: float) -> Point:
        """A step."""
        return Point(
            self.x + primal * by.x,
            self.spare + primal * by.spare,
            self.excess + primal * by.excess,
            self.y + dual * by.y,
            self.prices + dual * by.prices,
            self.z + dual * by.z,
            self.below + dual * by.below,
        )


def solve_relaxation(relaxation: Relaxation, prices: Floats) -> Floats:
    """The best prices, from a guess of them."""
    at = _start(relaxation, prices)
    best, highest = prices, relaxation.bound(prices)
    with np.errstate(all="ignore"):  # where a variable becomes 0 the steps end
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
    """Every column alike, near the guess of the prices."""
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
    """Straight for the optimum first, which tells how much to stay in the middle; then with that and a correction."""
    system = _System.of(relaxation, at)
    straight = system.solve(-at.x * at.z, -at.spare * at.prices, -at.excess * at.below)
    gap = at.gap()
    ahead = max(at.moved(straight, *_longest(at, straight)).gap(), 0.0)
    target = gap / at.size * min(1.0, (ahead / gap) ** 3)
    move = system.solve(
        target - at.x * at.z - straight.x * straight.z,
        target - at.spare * at.prices - straight.spare * straight.prices,
        target - at.excess * at.below - straight.excess * straight.below,
    )
    primal, dual = _longest(at, move)
    share = max(0.9, 1.0 - 2.0 * gap)
    return at.moved(move, share * primal, share * dual)


def _longest(at: Point, by: Point) -> tuple[float, float]:
    """How far the primal and the dual may go before something is negative; at most 1."""

    def longest(*pairs: tuple[Floats, Floats]) -> float:
        steepest = max(float((-step / value).max()) for value, step in pairs)
        return 1.0 if not steepest > 1.0 else 1.0 / steepest

    primal = longest((at.x, by.x), (at.spare, by.spare), (at.excess, by.excess))
    return primal, longest((at.z, by.z), (at.prices, by.prices), (at.below, by.below))


@dataclass(slots=True, eq=False)
class _System:
    """The equations of one step, so far worked out that they can be solved for several right sides."""

    relaxation: Relaxation
    at: Point
    ratio: Floats  # x / z
    weight: Floats  # [layers]: its sums
    weighted: Floats  # [rows][layers]: sums of ratio * rows
    matrix: Floats  # [rows][rows]
    missing: Floats  # of each layer's sum
    short: Floats  # of each row
    off: Floats  # of z

    @classmethod
    def of(cls, relaxation: Relaxation, at: Point) -> _System:
        """The equations at a point."""
        ratio = at.x / at.z
        scaled = relaxation.rows * ratio
        weight, weighted = relaxation.sums(ratio), relaxation.sums(scaled)
        matrix = scaled @ relaxation.rows.T - (weighted / weight) @ weighted.T
        matrix[np.diag_indices(len(matrix))] += at.spare / at.prices + at.excess / at.below
        missing = 1.0 - relaxation.sums(at.x)
        short = relaxation.limits - relaxation.rows @ at.x - at.spare + at.excess
        off = relaxation.reduced(at.prices) - relaxation.spread(at.y) - at.z
        return cls(relaxation, at, ratio, weight, weighted, matrix, missing, short, off)

    def solve(self, columns: Floats, spares: Floats, excesses: Floats) -> Point:
        """The step that changes each product by so much, to first order."""
        at, relaxation = self.at, self.relaxation
        free = columns / at.z - self.ratio * self.off
        rest = (self.missing - relaxation.sums(free)) / self.weight
        right = relaxation.rows @ free + self.weighted @ rest - self.short
        right += spares / at.prices - excesses / at.below
        prices = _solve(self.matrix, right)
        y = rest + (prices @ self.weighted) / self.weight
        z = self.off - relaxation.spread(y) + prices @ relaxation.rows
        return Point(
            x=(columns - at.x * z) / at.z,
            spare=(spares - at.spare * prices) / at.prices,
            excess=(excesses + at.excess * prices) / at.below,
            y=y,
            prices=prices,
            z=z,
            below=-prices,
        )


def _solve(matrix: Floats, right: Floats) -> Floats:
    """A symmetric positive system; one that is singular, as well as it can be."""
    try:
        return np.asarray(np.linalg.solve(matrix, right))
    except np.linalg.LinAlgError:
        return np.asarray(np.linalg.lstsq(matrix, right, rcond=None)[0])
