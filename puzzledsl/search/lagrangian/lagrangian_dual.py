"""Lagrangian dual: prices of the best bound, which are the dual solution of the linear relaxation, by an interior-point method.

Over paths of a decision diagram: Dantzig-Wolfe column generation (1960). A linear program over the paths found so far gives
prices, and the cheapest path at these prices is added. Points between the best and the new prices are evaluated too (in-out
separation, Ben-Ameur & Neto 2007), because the first programs know few paths.
"""

from __future__ import annotations

from math import inf
from time import monotonic

import numpy as np

from puzzledsl.search.lagrangian.interior import DEAREST, Relaxation, solve_relaxation
from puzzledsl.search.problem.columns import Floats, Ints
from puzzledsl.search.problem.instance import Problem
from puzzledsl.search.problem.paths import Paths

CORE = 12  # columns per layer that the relaxation is solved on, those of least slack at the prices of the round before
ROUNDS = 4
CLOSE = 1e-6  # relative gap between the bound over these columns and that over all, at which to stop
NEGLIGIBLE = 1e-7  # scaled prices below this count as 0
RAYS = (1e2, 1e4, 1e6)
SHARES = np.array([1.0, 0.5, 0.2, 0.05])  # points tried, as shares of the way from the best to the new prices
FIRST = np.array([1.0, 0.5, 2.0, 0.0])  # first prices tried, as multiples of the guess
PATH_ROUNDS = 40
LEAST_PATH_ROUNDS = 5
TRANSITIONS = 40_000_000  # limit on the transitions evaluated in all rounds together
PATHS_CLOSE = 1e-5  # relative gap between the bound and the program's value at which to stop
MOST_PATHS = 80


def best_prices(problem: Problem, guess: Floats | None = None) -> Floats:
    """Return prices [rows] that nearly maximise the bound, in units of the problem's integers. `guess`: prices to start from."""
    if not problem.rows:
        return np.zeros(0)
    relaxation, units = scaled_of(problem)
    prices = np.ones(len(units)) if guess is None else guess / units
    for _ in range(0 if guess is None else ROUNDS):
        slack = relaxation.reduced(prices)
        slack -= relaxation.spread(relaxation.least(slack))
        last = min(CORE * len(relaxation.start), len(slack) - 1)
        core = relaxation.only(slack <= np.partition(slack, last)[last])
        prices = solve_relaxation(core, prices)
        most = core.bound(prices)
        if most - relaxation.bound(prices) <= CLOSE * abs(most):
            break
    else:
        prices = solve_relaxation(relaxation, prices)
    if float(prices.max()) >= DEAREST / 10:  # probably infeasible, and a ray may prove it
        prices = max((prices * ray for ray in (1.0, *RAYS)), key=relaxation.bound)
    plain = np.where(prices < NEGLIGIBLE, 0.0, prices)  # tiny prices of slack rows would need large integers
    return np.asarray(plain * units, dtype=np.float64)


def carried(prices: Floats, source: Problem, target: Problem) -> Floats:
    """Convert prices to a guess for another problem with the same rows in other units, for example at another batch."""
    return np.asarray(prices / scaled_of(source)[1] * scaled_of(target)[1])


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
