"""Dantzig-Wolfe column generation (1960) with in-out separation: Lagrangian dual over paths of a decision diagram.

    L(price) = min over paths (cost + price . rows) - price . limits,   price >= 0

A linear program over the paths found so far gives prices; the cheapest path at these
prices is added. Points between the best and the new prices are evaluated too (in-out separation, Ben-Ameur & Neto 2007), because
the first programs know few paths.
"""

from __future__ import annotations

from math import inf
from time import monotonic

import numpy as np

from puzzledsl.search.lagrangian.interior import Relaxation, solve_relaxation
from puzzledsl.search.lagrangian.lagrangian_dual import scaled_of
from puzzledsl.search.problem.columns import Floats, Ints
from puzzledsl.search.problem.instance import Problem
from puzzledsl.search.problem.paths import Paths

SHARES = np.array([1.0, 0.5, 0.2, 0.05])  # points tried, as shares of the way from the best to the new prices
FIRST = np.array([1.0, 0.5, 2.0, 0.0])  # first prices tried, as multiples of the guess
ROUNDS = 40
LEAST_ROUNDS = 5
TRANSITIONS = 40_000_000  # limit on the transitions evaluated in all rounds together
CLOSE = 1e-5  # relative gap between the bound and the program's value at which to stop
MOST_PATHS = 80


def best_path_prices(problem: Problem, paths: Paths, guess: Floats, deadline: float = inf) -> Floats:
    """Return prices [rows] that nearly maximise the bound over paths, in units of the problem's integers, from a guess."""
    if not problem.rows:
        return np.zeros(0)
    numbers = scaled_of(problem)
    search = _Search(paths, numbers.relaxation)
    return np.asarray(search.run(guess / numbers.units, deadline) * numbers.units)


class _Search:
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
        rounds = min(ROUNDS, max(LEAST_ROUNDS, TRANSITIONS // transitions))
        for _ in range(rounds):
            if monotonic() > deadline:
                break
            program = Relaxation(
                self.costs,
                self.uses,
                self.relaxation.limits,
                np.zeros(1, dtype=np.int64),
                np.array([len(self.costs)]),
            )
            prices = solve_relaxation(program, self.best)
            most = program.bound(prices)
            if not np.isfinite(most) or most - self.highest <= CLOSE * abs(most):
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
