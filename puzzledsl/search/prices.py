"""The prices at which a problem's Lagrangian bound is best: the dual of its linear relaxation.

Few columns of a layer matter near the best prices, so columns are generated: rough prices by Newton steps on a smoothed bound
(min becomes a soft minimum whose temperature falls), then the relaxation over each layer's cheapest columns by an interior-point
method, with the columns that are cheaper still at the prices that come out, until there are none.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from puzzledsl.search.instance import Ints, Mask, Problem
from puzzledsl.search.interior import DEAREST, Floats, Relaxation, solve_relaxation

HEATS = (1.0, 0.3, 0.1, 0.03, 0.01)
STEPS_A_HEAT = 2
FIRST_COLUMNS = 10  # a layer
ROUNDS = 12
CLOSE = 1e-8  # relative, of the bound over the columns so far to that over all
NEGLIGIBLE = 1e-7  # of a price between a row and a goal of about 1
RAYS = (1e2, 1e4, 1e6)


@dataclass(frozen=True, slots=True, eq=False)
class Scaled:
    """A relaxation on numbers of about 1, and what its prices are multiplied by to be the problem's."""

    relaxation: Relaxation
    units: Floats


def best_prices(problem: Problem, guess: Floats | None = None) -> Floats:
    """Prices that nearly maximise the bound, a row, in units of the problem's integers. `guess`: prices that are not far off."""
    if not problem.rows:
        return np.zeros(0)
    scaled = scaled_of(problem)
    relaxation = scaled.relaxation
    rough = _rough(relaxation) if guess is None else guess / scaled.units
    prices = _beyond(relaxation, _generate(relaxation, rough))
    plain = np.where(prices < NEGLIGIBLE, 0.0, prices)  # integers stay small without rows that do not bind
    return np.asarray(plain * scaled.units, dtype=np.float64)


def carried(prices: Floats, source: Problem, target: Problem) -> Floats:
    """Prices of one problem as a guess for another with the same rows in other units: at another batch, say."""
    return np.asarray(prices / scaled_of(source).units * scaled_of(target).units)


def nearer(problem: Problem, prices: Floats) -> Floats:
    """Prices that are closer to a problem's best than those given, within some tenths of a percent: much sooner than the best."""
    scaled = scaled_of(problem)
    relaxation = scaled.relaxation
    best = moved = prices / scaled.units
    highest = relaxation.bound(best)
    for heat in HEATS[-2:]:
        step = _newton_step(relaxation, moved, heat)
        moved = moved if step is None else step
        if (value := relaxation.bound(moved)) > highest:
            best, highest = moved, value
    return np.asarray(best * scaled.units)


def scaled_of(problem: Problem) -> Scaled:
    """Every layer's least cost and least use of each row are 0; a middling layer's largest cost and a row's largest are 1."""
    columns = problem.columns
    values = np.vstack([problem.goal.values, problem.matrix]).astype(np.float64)
    least = columns.least(values)
    values -= np.repeat(least, columns.sizes, axis=1)
    tops = columns.most(values[0])
    middling = np.sort(tops)[len(tops) // 2]  # np.median would load numpy.ma
    cost_unit = float(middling) or float(tops.max()) or 1.0
    row_units = values[1:].max(axis=1)
    row_units[row_units == 0.0] = 1.0
    relaxation = Relaxation(
        values[0] / cost_unit,
        values[1:] / row_units[:, None],
        (problem.limits - least[1:].sum(axis=1)) / row_units,
        columns.start[:-1],
        columns.sizes,
    )
    return Scaled(relaxation, cost_unit / row_units)


def _generate(relaxation: Relaxation, prices: Floats) -> Floats:
    """The best prices, by generating columns from those that are cheapest at rough ones."""
    best, highest = prices, relaxation.bound(prices)
    keep = _cheapest(relaxation, prices)
    for _ in range(ROUNDS):
        inner = relaxation.only(keep)
        prices = solve_relaxation(inner, best)
        within, overall = inner.bound(prices), relaxation.bound(prices)
        cheaper = _cheaper(relaxation, best, prices)
        if overall > highest:
            best, highest = prices, overall
        if within - highest <= CLOSE * abs(within) or keep[cheaper].all():
            break
        keep[cheaper] = True
    return best


def _cheapest(relaxation: Relaxation, prices: Floats) -> Mask:
    """Each layer's cheapest columns at some prices, and those that need least of a row."""
    most = int(relaxation.sizes.max())
    inside = np.arange(most) < relaxation.sizes[:, None]
    reduced = np.full(inside.shape, np.inf)
    reduced[inside] = relaxation.reduced(prices)
    last = min(FIRST_COLUMNS, most) - 1
    limit = np.partition(reduced, last, axis=1)[:, last]
    return np.asarray(reduced[inside] <= relaxation.spread(limit))


def _cheaper(relaxation: Relaxation, before: Floats, after: Floats) -> Ints:
    """The columns that are a layer's cheapest on the way from some prices to others."""
    found = []
    for share in (1.0, 0.5, 0.1):
        reduced = relaxation.reduced(before + share * (after - before))
        found.append((reduced == relaxation.spread(relaxation.least(reduced))).nonzero()[0])
    return np.concatenate(found)


def _beyond(relaxation: Relaxation, prices: Floats) -> Floats:
    """Where prices are as high as may be, the problem hardly has an answer: far higher ones may prove that it has none."""
    if float(prices.max()) < DEAREST / 10:
        return prices
    return max((prices * ray for ray in (1.0, *RAYS)), key=relaxation.bound)


# ---------------------------------------------------------------- rough prices


def _rough(relaxation: Relaxation) -> Floats:
    """Prices that are within some percent of the best."""
    prices = np.zeros(len(relaxation.limits))
    best, highest = prices, relaxation.bound(prices)
    for heat in HEATS:
        for _ in range(STEPS_A_HEAT):
            moved = _newton_step(relaxation, prices, heat)
            if moved is None:
                break
            prices = moved
        value = relaxation.bound(prices)
        if value > highest:
            best, highest = prices, value
    return best


def _smooth(
    relaxation: Relaxation, prices: Floats, heat: float, second: bool
) -> tuple[float, Floats, Floats]:
    """The smoothed bound, its gradient and (if `second`) its Hessian."""
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
    """One projected Newton step with backtracking; None at the top."""
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
