"""Lagrangian dual by column generation: prices of the best bound, which are the dual solution of the linear relaxation.

Few columns of a layer matter near the best prices. First, Newton steps on a smoothed bound (soft minimum
with falling temperature) give rough prices. Then an interior-point method solves the relaxation on each layer's cheapest columns,
and columns that are cheaper at the resulting prices are added until there are none.

Over paths of a decision diagram: Dantzig-Wolfe column generation (1960). A linear program over the paths found so far gives
prices, and the cheapest path at these prices is added. Points between the best and the new prices are evaluated too (in-out
separation, Ben-Ameur & Neto 2007), because the first programs know few paths.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from time import monotonic

import numpy as np

from puzzledsl.search.lagrangian.interior import DEAREST, Relaxation, solve_relaxation
from puzzledsl.search.problem.columns import Floats, Ints, Mask
from puzzledsl.search.problem.instance import Problem
from puzzledsl.search.problem.paths import Paths

HEATS = (1.0, 0.3, 0.1, 0.03, 0.01)
STEPS_A_HEAT = 2
FIRST_COLUMNS = 10  # columns per layer at the start
ROUNDS = 12
CLOSE = 1e-8  # relative gap between the bound over the present columns and that over all, at which to stop
NEGLIGIBLE = 1e-7  # scaled prices below this count as 0
RAYS = (1e2, 1e4, 1e6)
SHARES = np.array([1.0, 0.5, 0.2, 0.05])  # points tried, as shares of the way from the best to the new prices
FIRST = np.array([1.0, 0.5, 2.0, 0.0])  # first prices tried, as multiples of the guess
PATH_ROUNDS = 40
LEAST_PATH_ROUNDS = 5
TRANSITIONS = 40_000_000  # limit on the transitions evaluated in all rounds together
PATHS_CLOSE = 1e-5  # relative gap between the bound and the program's value at which to stop
MOST_PATHS = 80


def best_prices(problem: Problem, guess: Floats | None = None, deadline: float = inf) -> Floats:
    """Return prices [rows] that nearly maximise the bound, in units of the problem's integers. `guess`: prices to start from."""
    if not problem.rows:
        return np.zeros(0)
    relaxation, units = scaled_of(problem)
    rough = _cooled(relaxation, np.zeros(len(units)), HEATS, STEPS_A_HEAT) if guess is None else guess / units
    prices = _beyond(relaxation, _generate(relaxation, rough, deadline))
    plain = np.where(prices < NEGLIGIBLE, 0.0, prices)  # tiny prices of slack rows would need large integers
    return np.asarray(plain * units, dtype=np.float64)


def carried(prices: Floats, source: Problem, target: Problem) -> Floats:
    """Convert prices to a guess for another problem with the same rows in other units, for example at another batch."""
    return np.asarray(prices / scaled_of(source)[1] * scaled_of(target)[1])


def nearer(problem: Problem, prices: Floats) -> Floats:
    """Improve prices by two Newton steps: typically to within tenths of a percent of the best bound, much faster than it."""
    relaxation, units = scaled_of(problem)
    return _cooled(relaxation, prices / units, HEATS[-2:], 1) * units


def scaled_of(problem: Problem) -> tuple[Relaxation, Floats]:
    """Return the relaxation, scaled to numbers of about 1, and the units [rows] that make its prices the problem's.

    The least cost and use of each layer are 0; the largest use of a row and the median over layers of the largest cost are 1.
    """
    columns = problem.columns
    values = np.vstack([problem.goal.values, problem.matrix]).astype(np.float64)
    least = columns.least(values)
    values -= np.repeat(least, columns.sizes, axis=1)
    tops = columns.most(values[0])
    middling = np.sort(tops)[len(tops) // 2]  # np.median would load numpy.ma
    cost_unit = float(middling) or float(tops.max()) or 1.0
    row_units = values[1:].max(axis=1)
    row_units[row_units == 0.0] = 1.0
    limits = (problem.limits - least[1:].sum(axis=1)) / row_units
    rows = values[1:] / row_units[:, None]
    relaxation = Relaxation(values[0] / cost_unit, rows, limits, columns.start[:-1], columns.sizes)
    return relaxation, cost_unit / row_units


def _generate(relaxation: Relaxation, prices: Floats, deadline: float) -> Floats:
    """Return the best prices by column generation, starting with the columns that are cheapest at rough prices."""
    best, highest = prices, relaxation.bound(prices)
    keep = _cheapest(relaxation, prices)
    for _ in range(ROUNDS):
        inner = relaxation.only(keep)
        prices = solve_relaxation(inner, best)
        within, overall = inner.bound(prices), relaxation.bound(prices)
        cheaper = _cheaper(relaxation, best, prices)
        if overall > highest:
            best, highest = prices, overall
        if within - highest <= CLOSE * abs(within) or keep[cheaper].all() or monotonic() > deadline:
            break
        keep[cheaper] = True
    return best


def _cheapest(relaxation: Relaxation, prices: Floats) -> Mask:
    """Return the mask of each layer's FIRST_COLUMNS cheapest columns at given prices, with ties."""
    most = int(relaxation.sizes.max())
    inside = np.arange(most) < relaxation.sizes[:, None]
    reduced = np.full(inside.shape, np.inf)
    reduced[inside] = relaxation.reduced(prices)
    last = min(FIRST_COLUMNS, most) - 1
    limit = np.partition(reduced, last, axis=1)[:, last]
    return np.asarray(reduced[inside] <= relaxation.spread(limit))


def _cheaper(relaxation: Relaxation, before: Floats, after: Floats) -> Ints:
    """Return each layer's cheapest columns at three points between prices `before` and `after`."""
    found = []
    for share in (1.0, 0.5, 0.1):
        reduced = relaxation.reduced(before + share * (after - before))
        found.append((reduced == relaxation.spread(relaxation.least(reduced))).nonzero()[0])
    return np.concatenate(found)


def _beyond(relaxation: Relaxation, prices: Floats) -> Floats:
    """Scale prices near DEAREST up if that improves the bound: the problem is probably infeasible, and a ray may prove it."""
    if float(prices.max()) < DEAREST / 10:
        return prices
    return max((prices * ray for ray in (1.0, *RAYS)), key=relaxation.bound)


def _cooled(relaxation: Relaxation, prices: Floats, heats: Sequence[float], steps: int) -> Floats:
    """Return better prices, by Newton steps on the bound smoothed with ever less heat; from 0, to within a few percent."""
    best, highest = prices, relaxation.bound(prices)
    for heat in heats:
        for _ in range(steps):
            moved = _newton_step(relaxation, prices, heat)
            if moved is None:
                break
            prices = moved
        if (value := relaxation.bound(prices)) > highest:
            best, highest = prices, value
    return best


def _smooth(
    relaxation: Relaxation, prices: Floats, heat: float, second: bool
) -> tuple[float, Floats, Floats]:
    """Return the smoothed bound, its gradient [rows], and its Hessian [rows][rows] if `second`, else an empty array."""
    reduced = relaxation.reduced(prices)
    least = relaxation.least(reduced)
    weights = np.exp((relaxation.spread(least) - reduced) / heat)
    total = relaxation.sums(weights)
    value = float(least.sum() - heat * np.log(total).sum() - prices @ relaxation.limits)
    weights /= relaxation.spread(total)
    weighted = relaxation.rows * weights
    means = relaxation.sums(weighted)
    gradient = means.sum(axis=1) - relaxation.limits
    hessian = (means @ means.T - weighted @ relaxation.rows.T) / heat if second else np.zeros((0, 0))
    return value, gradient, hessian


def _newton_step(relaxation: Relaxation, prices: Floats, heat: float) -> Floats | None:
    """Take one projected Newton step with backtracking. None if no step improves the smoothed bound."""
    value, gradient, hessian = _smooth(relaxation, prices, heat, True)
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
        if _smooth(relaxation, moved, heat, False)[0] > value + 1e-15:
            return np.asarray(moved)
        step /= 2
    return None


def best_path_prices(problem: Problem, paths: Paths, guess: Floats, deadline: float = inf) -> Floats:
    """Return prices [rows] that nearly maximise the bound over paths, in units of the problem's integers, from a guess."""
    if not problem.rows:
        return np.zeros(0)
    relaxation, units = scaled_of(problem)
    return np.asarray(_PathSearch(paths, relaxation).run(guess / units, deadline) * units)


class _PathSearch:
    """Column generation: costs and row sums of the paths found so far, and the best prices."""

    def __init__(self, paths: Paths, relaxation: Relaxation) -> None:
        self.paths, self.relaxation = paths, relaxation
        self.costs = np.zeros(0)
        self.uses = np.zeros((len(relaxation.limits), 0))
        self.best, self.highest = np.zeros(len(relaxation.limits)), -np.inf

    def run(self, guess: Floats, deadline: float) -> Floats:
        """Generate paths from a guess of the prices. Return the best prices."""
        self._try(guess * FIRST[:, None])
        transitions = sum(table.size for table in self.paths.diagram.next) * len(SHARES)
        rounds = min(PATH_ROUNDS, max(LEAST_PATH_ROUNDS, TRANSITIONS // transitions))
        for _ in range(rounds):
            if monotonic() > deadline:
                break
            alone = np.zeros(1, dtype=np.int64), np.array([len(self.costs)])
            program = Relaxation(self.costs, self.uses, self.relaxation.limits, *alone)
            prices = solve_relaxation(program, self.best)
            most = program.bound(prices)
            if not np.isfinite(most) or most - self.highest <= PATHS_CLOSE * abs(most):
                break
            self._try(self.best + SHARES[:, None] * (prices - self.best))
        return self.best

    def _try(self, prices: Floats) -> None:
        """Evaluate several prices at once, [try][row], and keep their cheapest paths."""
        relaxation = self.relaxation
        values = relaxation.cost + prices @ relaxation.rows
        least = self.paths.least(values)
        to_end = self.paths.to_end(least)
        chosen: Ints = self.paths.cheapest(values, least, to_end)
        costs = relaxation.cost[chosen].sum(axis=1)
        uses = relaxation.rows[:, chosen].sum(axis=2)
        bounds = costs + (prices * (uses.T - relaxation.limits)).sum(axis=1)
        self.costs = np.append(self.costs, costs)[-MOST_PATHS:]
        self.uses = np.hstack([self.uses, uses])[:, -MOST_PATHS:]
        top = int(np.argmax(bounds))
        if bounds[top] > self.highest:
            self.highest, self.best = float(bounds[top]), prices[top]
