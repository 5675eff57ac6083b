"""Lagrangian lower bound (Geoffrion 1974): priced constraints let each layer take its cheapest column independently.

    L(price) = sum over layers of min over columns (cost + price . row) - price . limits,   price >= 0

The best prices come from an interior-point method, over paths of a decision diagram from Dantzig-Wolfe column generation
(1960): a program over the paths found so far gives prices, and the cheapest path at these, and at points between them and the
best ones (in-out separation, Ben-Ameur & Neto 2007), is added. The bound is then recomputed in exact integers. A column whose
slack exceeds the difference between a known answer and the bound is in no better answer (reduced-cost fixing).

Mehrotra's predictor-corrector interior-point method (1992) solves linear relaxations with few rows,

    minimise cost . x + DEAREST * excess
    where each layer's x add up to 1,   rows . x + spare - excess = limits,   x, spare, excess >= 0

Each step solves one system with an equation for each row; the layers' equations are eliminated. Numbers are floats of about 1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from time import monotonic
from typing import NamedTuple

import numpy as np

from puzzledsl.search.problem.columns import Floats, Ints, Mask
from puzzledsl.search.problem.diagram import NEVER, Paths
from puzzledsl.search.problem.instance import Problem, paths_of

STEPS = 50
CONVERGED = 1e-7  # relative duality gap at which to stop
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
    """Primal-dual point: primal `x`, `spare`, `excess`; dual `y` (by layer) and `prices`; and the dual slacks `z`, `below`."""

    x: Floats
    spare: Floats
    excess: Floats
    y: Floats
    prices: Floats
    z: Floats  # cost + prices . rows - y
    below: Floats  # DEAREST - prices

    def gap(self) -> float:
        """Return the sum of all complementarity products, which is the duality gap if the point is feasible."""
        return float(self.x @ self.z + self.spare @ self.prices + self.excess @ self.below)

    def moved(self, by: Point, primal: float, dual: float) -> Point:
        """Return the point after a step of length `primal` in primal and `dual` in dual variables."""
        lengths = (primal,) * 3 + (dual,) * 4
        return Point(*(own + length * step for own, step, length in zip(self, by, lengths, strict=True)))


def solve_relaxation(relaxation: Relaxation, prices: Floats) -> Floats:
    """Return the prices [rows] with the best bound among `prices` and those of the interior-point method started near them."""
    at = _start(relaxation, prices)
    best, highest = prices, relaxation.bound(prices)
    with np.errstate(all="ignore"):  # a variable that reaches 0 gives infinities, which end the iteration
        for _ in range(STEPS):
            if not at.gap() > 0.0:  # no float is left between the two bounds
                break
            at = _step(relaxation, at)
            if not np.isfinite(at.prices).all() or float(at.prices.min()) < 0:
                break
            value = relaxation.bound(at.prices)
            if value > highest:
                highest, best = value, at.prices
            if not at.gap() > CONVERGED * (abs(value) + TINY):
                break
    return best


def _start(relaxation: Relaxation, guess: Floats) -> Point:
    """Return an interior point to start from: equal x within each layer, and the prices `guess`, kept off 0 and DEAREST."""
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
    """Return a function (columns, spares, excesses) -> Newton step from the point `at`; a step is a `Point` of differences.

    To first order, the step changes `x * z`, `spare * prices` and `excess * below` by these three, and meets all equations.
    """
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


MOST_BITS = 28  # binary places of a price, at most
ENOUGH_BITS = 10  # significant bits of the least weighty price that make int64 precise enough
WEIGHTY = 1e-6  # share of the total magnitude: a row that contributes less may have an imprecise price
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


@dataclass(frozen=True, eq=False)
class Bound:
    """Proven lower bound on a problem's sum (its objective in integers). All numbers are exact, in units of 1 / `scale`.

    `slack[column]`: every answer with this column is at least this much above the bound. `infeasible`: the problem is proven to
    have no answer.
    """

    prices: tuple[int, ...]
    scale: int
    exact: int  # the bound times scale
    reduced: Ints  # cost + price . row of each column
    slack: Ints
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
    """Compute the best Lagrangian bound found by the deadline, from prices `guess`. Formulas without a diagram are ignored."""
    paths = paths_of(problem)
    if paths is None:
        return certify(problem, best_prices(problem, guess))
    if not problem.rows:
        return certify(problem, np.zeros(0))
    relaxation, units = scaled_of(problem)
    start = (best_prices(problem) if guess is None else guess) / units
    return certify(problem, _PathSearch(paths, relaxation).run(start, deadline) * units)


def certify(problem: Problem, prices: Floats) -> Bound:
    """Compute the bound at float `prices` [rows] in exact integers. They are scaled down together if int64 would overflow."""
    prices = np.maximum(prices, 0.0)
    prices = prices * min(1.0, NEVER / 8 / max(float(prices @ problem.row_sizes), 1.0))
    bits = int(precision(problem, prices[None, :])[0][0])
    whole = np.rint(prices * 2.0**bits).astype(np.int64)
    reduced = problem.goal.values * (1 << bits) + whole @ problem.matrix
    columns, paths = problem.columns, paths_of(problem)
    if paths is None:
        free = columns.least(reduced)
        total, slack = sum(free.tolist()), reduced - np.repeat(free, columns.sizes)
    else:
        (total,), (slack,) = paths.slacks(reduced[None, :])
    exact = int(total) - sum((whole.astype(object) * problem.limits).tolist())
    infeasible = problem.diagram is not None and not problem.diagram.feasible
    infeasible |= exact > problem.largest_sum << bits
    return Bound(tuple(whole.tolist()), 1 << bits, exact, reduced, slack, infeasible)


def precision(problem: Problem, prices: Floats) -> tuple[Ints, Mask]:
    """Return, for each set of prices [set][row], the binary places that fit into int64 and True if they are enough."""
    spent = prices * problem.row_sizes
    magnitude = np.maximum(problem.goal_size + spent.sum(axis=1), 1.0)
    room = 61 - np.ceil(np.log2(magnitude)).astype(np.int64)
    weighty = np.where((prices > 0) & (spent >= WEIGHTY * magnitude[:, None]), prices, np.inf)
    least = np.minimum(weighty.min(axis=1, initial=np.inf), 2.0**60)
    needed = np.maximum(0, ENOUGH_BITS - np.floor(np.log2(least)).astype(np.int64))
    return np.clip(room, 0, MOST_BITS), np.asarray(room >= needed)


def best_prices(problem: Problem, guess: Floats | None = None) -> Floats:
    """Return prices [rows], in the problem's integers, that nearly maximise the bound without formulas, from prices `guess`."""
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


class _PathSearch:
    """Column generation: costs and row sums of the paths found so far, and the best prices."""

    def __init__(self, paths: Paths, relaxation: Relaxation) -> None:
        self.paths, self.relaxation = paths, relaxation
        self.costs = np.zeros(0)
        self.uses = np.zeros((len(relaxation.limits), 0))
        self.best, self.highest = np.zeros(len(relaxation.limits)), -np.inf

    def run(self, guess: Floats, deadline: float) -> Floats:
        """Generate paths by rounds, starting at the prices `guess` [rows]. Return the best prices."""
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
        """Evaluate several prices at once, [try][row]; keep their cheapest paths, and the prices of the best bound."""
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
