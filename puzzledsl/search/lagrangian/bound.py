"""Lagrangian lower bound (Geoffrion 1974): priced constraints let each layer take its cheapest column independently.

    L(price) = sum over layers of min over columns (cost + price . row) - price . limits,   price >= 0

The prices are found in floating point (see `lagrangian_dual.py`). Their bound is then recomputed in exact integers, so rounding
cannot make it wrong. A column whose slack exceeds the difference between a known answer and the bound is in no better answer
(reduced-cost fixing).
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import inf
from typing import Any

import numpy as np
from numpy.typing import NDArray

from puzzledsl.search.lagrangian.lagrangian_dual import best_path_prices, best_prices
from puzzledsl.search.problem.columns import Floats, Ints, Mask
from puzzledsl.search.problem.instance import Problem
from puzzledsl.search.problem.paths import NEVER, Paths, paths_of

MOST_BITS = 28  # binary places of a price, at most
ENOUGH_BITS = 10  # significant bits of the least weighty price that make int64 precise enough
WEIGHTY = 1e-6  # share of the total magnitude: a row that contributes less may have an imprecise price


@dataclass(frozen=True, eq=False)
class Bound:
    """Proven lower bound on a problem's sum (its objective in integers). All numbers are exact, in units of 1 / `scale`.

    `slack[column]`: every answer with this column is at least this much above the bound. `infeasible`: the problem is proven to
    have no answer.
    """

    prices: tuple[int, ...]
    scale: int
    exact: int  # the bound times scale
    reduced: NDArray[Any]  # cost + price . row of each column; int64, or Python integers where those overflow
    slack: NDArray[Any]
    infeasible: bool

    @property
    def float_prices(self) -> Floats:
        """Prices as floats: integers of the objective per integer of each row, [rows]."""
        return np.array([p / self.scale for p in self.prices], dtype=np.float64)

    @property
    def value(self) -> int:
        """The bound rounded up to an integer, since sums are integers."""
        return -(-self.exact // self.scale)

    def within(self, value: int) -> Mask:
        """Return the mask of columns that may be in an answer whose sum is at most `value`."""
        return np.asarray(self.slack <= value * self.scale - self.exact, dtype=np.bool_)


def lagrangian_bound(problem: Problem, guess: Floats | None = None, deadline: float = inf) -> Bound:
    """Compute the best Lagrangian bound that is found by the deadline, from prices to start with; other formulas are relaxed."""
    paths = paths_of(problem)
    if paths is None:
        return certify(problem, best_prices(problem, guess))
    start = best_prices(problem) if guess is None else guess
    return certify(problem, best_path_prices(problem, paths, start, deadline))


def certify(problem: Problem, prices: Floats) -> Bound:
    """Compute the bound of non-negative float prices in exact integers."""
    if problem.diagram is not None and (problem.diagram.order or not problem.diagram.feasible):
        return _certify_paths(problem, Paths(problem.columns, problem.diagram), prices)
    bits, fits = (part[0] for part in precision(problem, prices[None, :]))
    least = float(prices[prices > 0].min(initial=np.inf))
    if not fits and np.isfinite(least):
        bits = min(max(0, MOST_BITS - int(np.floor(np.log2(least)))), 900)
    scale, kind = 2 ** int(bits), np.int64 if fits else object
    whole = tuple(round(Fraction(float(p)) * scale) if p > 0 else 0 for p in prices)
    values, matrix, limits = problem.goal.values, problem.matrix, problem.limits
    reduced: NDArray[Any] = values.astype(kind) * scale
    for price, row in zip(whole, matrix, strict=True):
        if price:
            reduced = reduced + row.astype(kind) * price
    least_each = problem.columns.least(reduced)
    exact = sum(least_each.tolist()) - sum(p * int(b) for p, b in zip(whole, limits, strict=True))
    most = int(problem.columns.most(values).sum()) * scale
    slack = reduced - np.repeat(least_each, problem.columns.sizes)
    return Bound(whole, scale, exact, reduced, slack, exact > most)


def _certify_paths(problem: Problem, paths: Paths, prices: Floats) -> Bound:
    """Compute the bound over paths in int64, from prices scaled down together until they fit."""
    prices = np.maximum(prices, 0.0)
    prices = prices * min(1.0, NEVER / 8 / max(float(prices @ problem.row_sizes), 1.0))
    bits = int(precision(problem, prices[None, :])[0][0])
    whole = np.rint(prices * 2.0**bits).astype(np.int64)
    reduced = problem.goal.values * (1 << bits) + whole @ problem.matrix
    columns = problem.columns
    if not paths.diagram.feasible:
        return Bound(tuple(whole.tolist()), 1 << bits, 0, reduced, np.zeros_like(reduced), True)
    least = paths.least(reduced[None, :])
    to_end = paths.to_end(least)
    free = columns.least(reduced)
    slack = reduced - np.repeat(free, columns.sizes)
    through = paths.through(least, to_end)
    total = int(to_end[0][0, 0])
    sizes = np.diff(np.append(paths.first, len(paths.ordered)))
    around = np.repeat(through, sizes)
    slack[paths.ordered] = np.where(around >= NEVER / 2, NEVER, reduced[paths.ordered] + around - total)
    exact = total + sum(free[paths.free].tolist()) - sum((whole.astype(object) * problem.limits).tolist())
    most = int(columns.most(problem.goal.values).sum()) << bits
    return Bound(tuple(whole.tolist()), 1 << bits, exact, reduced, slack, exact > most)


def precision(problem: Problem, prices: Floats) -> tuple[Ints, Mask]:
    """Return, for each set of prices [set][row], the binary places that fit into int64 and True if they are enough."""
    spent = prices * problem.row_sizes
    magnitude = np.maximum(problem.goal_size + spent.sum(axis=1), 1.0)
    room = 61 - np.ceil(np.log2(magnitude)).astype(np.int64)
    weighty = np.where((prices > 0) & (spent >= WEIGHTY * magnitude[:, None]), prices, np.inf)
    least = np.minimum(weighty.min(axis=1, initial=np.inf), 2.0**60)
    needed = np.maximum(0, ENOUGH_BITS - np.floor(np.log2(least)).astype(np.int64))
    return np.clip(room, 0, MOST_BITS), np.asarray(room >= needed)
