"""The prices at which the Lagrangian bound over paths of a decision diagram is best.

    L(price) = min over paths (cost + price . rows) - price . limits,   price >= 0

Column generation (Dantzig & Wolfe 1960): a linear program over the paths found so far gives prices, a cheapest path at these
prices is found next. Points on the way from the best prices to the new ones are tried at the same time (in-out separation,
Ben-Ameur & Neto 2007), since the first programs know few paths.
"""

from __future__ import annotations

import numpy as np

from puzzledsl.search.instance import Ints, Problem
from puzzledsl.search.interior import Floats, Relaxation, solve_relaxation
from puzzledsl.search.paths import Paths
from puzzledsl.search.prices import scaled_of

SHARES = np.array([1.0, 0.5, 0.2, 0.05])  # of the way to the new prices
FIRST = np.array([1.0, 0.5, 2.0, 0.0])  # times the guess
ROUNDS = 40
LEAST_ROUNDS = 5
TRANSITIONS = 40_000_000  # that all rounds together look at
CLOSE = 1e-5  # of the bound: how near the best prices are
MOST_PATHS = 80


def best_path_prices(problem: Problem, paths: Paths, guess: Floats) -> Floats:
    """Prices that nearly maximise the bound over paths, a row, in units of the problem's integers. `guess`: a first one."""
    if not problem.rows:
        return np.zeros(0)
    numbers = scaled_of(problem)
    search = _Search(paths, numbers.relaxation)
    return np.asarray(search.run(guess / numbers.units) * numbers.units)


class _Search:
    """The paths found so far: their costs and what they use of each row."""

    def __init__(self, paths: Paths, relaxation: Relaxation) -> None:
        self.paths, self.relaxation = paths, relaxation
        self.costs = np.zeros(0)
        self.uses = np.zeros((len(relaxation.limits), 0))
        self.best, self.highest = np.zeros(len(relaxation.limits)), -np.inf

    def run(self, guess: Floats) -> Floats:
        """Column generation from a guess."""
        self._try(guess * FIRST[:, None])
        transitions = sum(table.size for table in self.paths.diagram.next) * len(SHARES)
        rounds = min(ROUNDS, max(LEAST_ROUNDS, TRANSITIONS // transitions))
        for _ in range(rounds):
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
        """Evaluate several prices at once, [try][row]; keep their paths."""
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
