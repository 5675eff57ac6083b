"""The Lagrangian bound: requirements priced, every layer then free to take its cheapest column.

    L(price) = sum over layers of min over columns (cost + price . row) - price . limits,   price >= 0

The prices come from floating-point Newton steps on a smoothed L (min becomes a soft minimum whose temperature falls); the bound
they give is then recomputed in exact integers, so no rounding can make it wrong. A column whose slack is above what is left
between the bound and a known answer is in no better answer (reduced-cost fixing).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from puzzledsl.search.instance import Ints, Mask, Problem

Floats = NDArray[np.float64]
BITS = 28  # of precision of the smallest price
COOLING = 0.25
COLDEST = 1e-8
STEPS_A_TEMPERATURE = 4
NEGLIGIBLE = 1e-7  # of a price between a row and a goal of about 1


@dataclass(frozen=True, eq=False)
class Bound:
    """A proven lower bound on a problem's sum. All numbers are exact, in units of 1 / `scale`.

    `slack[column]`: how much above the bound every answer with this column is. `infeasible`: proven to have no answer.
    """

    prices: tuple[int, ...]
    scale: int
    exact: int  # the bound times scale
    reduced: NDArray[Any]  # cost + price . row of each column; int64, or Python integers where those overflow
    slack: NDArray[Any]
    infeasible: bool

    @property
    def value(self) -> int:
        """The bound on the sum, which is an integer: rounded up."""
        return -(-self.exact // self.scale)

    def within(self, value: int) -> Mask:
        """The columns that an answer of sum `value` or less may have."""
        return np.asarray(self.slack <= value * self.scale - self.exact, dtype=np.bool_)

    def beyond(self, keep: Mask) -> int | None:
        """A bound on every answer with a column that is not in `keep`; None where there is no such column."""
        if keep.all():
            return None
        return -(-(self.exact + int(self.slack[~keep].min())) // self.scale)


def lagrangian_bound(problem: Problem) -> Bound:
    """The best Lagrangian bound of a problem's rows (its formulas are left out, so it bounds the whole problem too)."""
    prices = _best_prices(problem) if problem.rows else np.zeros(0)
    return certify(problem, prices)


def certify(problem: Problem, prices: Floats) -> Bound:
    """The bound that non-negative float prices give, in exact integers."""
    positive = prices[prices > 0]
    least = float(positive.min()) if len(positive) else 1.0
    scale = 2 ** min(max(0, BITS - int(np.floor(np.log2(least)))), 900)
    whole = [round(float(p) * scale) if p > 0 else 0 for p in prices]
    values, matrix, limits = problem.goal.values, problem.matrix, problem.limits
    largest = scale * int(np.abs(values).max(initial=1)) + sum(
        p * max(int(np.abs(row).max(initial=1)), abs(int(limit)))
        for p, row, limit in zip(whole, matrix, limits, strict=True)
    )
    kind = np.int64 if largest * (problem.columns.layers + 1) < 2**62 else object
    reduced = values.astype(kind) * scale
    for price, row in zip(whole, matrix, strict=True):
        if price:
            reduced = reduced + row.astype(kind) * price
    least_each = problem.columns.least(reduced)
    exact = int(sum(least_each.tolist())) - sum(p * int(b) for p, b in zip(whole, limits, strict=True))
    most = int(problem.columns.most(values).sum()) * scale
    slack = reduced - np.repeat(least_each, np.diff(problem.columns.start))
    return Bound(tuple(whole), scale, exact, reduced, slack, exact > most)


@dataclass(slots=True, eq=False)
class _Dual:
    """L on numbers of about 1: `cost` and `rows` are shifted to have a least value of 0 in every layer, then scaled."""

    cost: Floats
    rows: Floats
    limits: Floats
    start: Ints
    sizes: Ints

    def smooth(self, prices: Floats, heat: float, second: bool) -> tuple[float, Floats, Floats]:
        """The smoothed L, its gradient and (if `second`) its Hessian."""
        reduced = self.cost + prices @ self.rows
        least = np.minimum.reduceat(reduced, self.start)
        weights = np.exp((np.repeat(least, self.sizes) - reduced) / heat)
        total = np.add.reduceat(weights, self.start)
        value = float(least.sum() - heat * np.log(total).sum() - prices @ self.limits)
        weights /= np.repeat(total, self.sizes)
        means = np.add.reduceat(self.rows * weights, self.start, axis=1)
        gradient = means.sum(axis=1) - self.limits
        hessian = (
            (means @ means.T - (self.rows * weights) @ self.rows.T) / heat if second else np.zeros((0, 0))
        )
        return value, gradient, hessian

    def sharp(self, prices: Floats) -> float:
        """L itself."""
        least = np.minimum.reduceat(self.cost + prices @ self.rows, self.start)
        return float(least.sum() - prices @ self.limits)


def _best_prices(problem: Problem) -> Floats:
    """Prices that nearly maximise L, in units of the problem's integers."""
    columns = problem.columns
    sizes = np.diff(columns.start)
    cost = problem.goal.values - np.repeat(columns.least(problem.goal.values), sizes)
    base = np.array([int(columns.least(row).sum()) for row in problem.matrix], dtype=np.float64)
    rows = np.array([row - np.repeat(columns.least(row), sizes) for row in problem.matrix], dtype=np.float64)
    cost_unit = max(float(cost.max(initial=0)), 1.0)
    row_units = np.maximum(rows.max(axis=1), 1.0)
    dual = _Dual(
        cost / cost_unit,
        rows / row_units[:, None],
        (problem.limits - base) / row_units,
        columns.start[:-1],
        sizes,
    )
    hopeless = float(columns.most(dual.cost).sum()) * (1 + 1e-6) + 1e-6
    prices, best = np.zeros(len(rows)), np.zeros(len(rows))
    highest, heat = dual.sharp(prices), 0.25
    while heat > COLDEST and highest <= hopeless:
        for _ in range(STEPS_A_TEMPERATURE):
            moved = _newton_step(dual, prices, heat)
            if moved is None:
                break
            prices = moved
            value = dual.sharp(prices)
            if value > highest:
                highest, best = value, prices
        heat *= COOLING
    best[best < NEGLIGIBLE] = 0.0  # a row that does not bind: without it the exact integers stay small
    return np.asarray(best * cost_unit / row_units, dtype=np.float64)


def _newton_step(dual: _Dual, prices: Floats, heat: float) -> Floats | None:
    """One projected Newton step with backtracking; None at the top."""
    value, gradient, hessian = dual.smooth(prices, heat, True)
    free = (prices > 0) | (gradient > 0)
    if not free.any() or float(np.abs(gradient[free]).max()) < 1e-10:
        return None
    curvature = -hessian[np.ix_(free, free)]
    ridge = 1e-9 * max(float(np.trace(curvature)), 1e-9)
    step = np.zeros_like(prices)
    step[free] = np.linalg.solve(curvature + ridge * np.eye(int(free.sum())), gradient[free])
    longest = 4.0 * (1.0 + float(np.abs(prices).max()))
    step *= min(1.0, longest / max(float(np.abs(step).max()), 1e-300))
    for _ in range(12):
        moved = np.maximum(prices + step, 0.0)
        if dual.smooth(moved, heat, False)[0] > value + 1e-15:
            return np.asarray(moved)
        step /= 2
    return None
