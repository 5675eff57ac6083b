"""Prices for many pins at once: projected Newton steps on the smoothed Lagrangian bound, from the prices without a pin.

A pin changes the rest of each budget a little, so the best prices move a little, too; the bound at the old prices is weaker, to
second order. The pins of a layer share all columns but this layer's, so their steps are computed together. Prices are floats;
`bounds_at` computes exact bounds from them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from puzzledsl.search.lagrangian.bound import Bound, precision
from puzzledsl.search.lagrangian.interior import Relaxation
from puzzledsl.search.lagrangian.lagrangian_dual import NEGLIGIBLE, scaled_of
from puzzledsl.search.problem.columns import Floats, Ints, Mask
from puzzledsl.search.problem.instance import Problem
from puzzledsl.search.sensitivity.pins import Pin

HEATS = (0.01, 0.003, 0.001, 0.0003)  # temperatures of the smoothed minimum, one Newton step each
STEPS = (1.0, 0.4)  # step lengths that are tried
NEAR = 8  # columns per layer that are considered: those with the least slack
TOGETHER = 128  # pins whose exact bounds are computed at once
EXCLUDED = 2**62  # above every priced column, and low enough that differences do not overflow
FREE = 1e-9  # relative ridge on the curvature, which is 0 for a row that no choice of columns changes


@dataclass(frozen=True, slots=True, eq=False)
class PinBounds:
    """Exact Lagrangian bounds by pin. `whole[pin][row]`: prices times `scale[pin]`. `exact[pin]`: bound times `scale[pin]`.

    `fits[pin]`: True if 64 bits are enough; otherwise the entry is meaningless.
    """

    whole: Ints
    scale: Ints
    exact: Ints
    fits: Mask

    def __getitem__(self, some: Ints | slice) -> PinBounds:
        return PinBounds(self.whole[some], self.scale[some], self.exact[some], self.fits[some])

    def values(self) -> Ints:
        """Return the bounds on the sums, rounded up to integers, [pins]."""
        return np.asarray(-(-self.exact // self.scale))


def pin_bounds(problem: Problem, bound: Bound, pins: Sequence[Pin]) -> PinBounds:
    """Compute the bound of a problem with each pin, at prices that are nearly best for the pin."""
    prices = _duals(problem, bound, pins) if problem.rows else np.zeros((len(pins), 0))
    return bounds_at(problem, pins, prices)


def bounds_at(problem: Problem, pins: Sequence[Pin], prices: Floats) -> PinBounds:
    """Compute the exact bounds at given prices [pin][row]."""
    bits, fits = precision(problem, prices)
    scale = np.int64(1) << bits
    whole = np.rint(np.where(fits[:, None], prices * scale[:, None], 0.0)).astype(np.int64)
    exact = np.concatenate(
        [
            _exact(
                problem,
                pins[begin : begin + TOGETHER],
                whole[begin : begin + TOGETHER],
                scale[begin : begin + TOGETHER],
            )
            for begin in range(0, len(pins), TOGETHER)
        ]
    )
    return PinBounds(whole, scale, exact, fits)


def priced_columns(problem: Problem, pins: Sequence[Pin], whole: Ints, scale: Ints) -> Ints:
    """Return objective plus priced rows of each column, [pin][column]; EXCLUDED for columns that a pin excludes."""
    priced = problem.goal.values * scale[:, None] + whole @ problem.matrix
    start = problem.columns.start
    for own, pin in zip(priced, pins, strict=True):
        kept = own[pin.columns]
        own[start[pin.layer] : start[pin.layer + 1]] = EXCLUDED
        own[pin.columns] = kept
    return np.asarray(priced)


def _exact(problem: Problem, pins: Sequence[Pin], whole: Ints, scale: Ints) -> Ints:
    least = problem.columns.least(priced_columns(problem, pins, whole, scale))
    return np.asarray(least.sum(axis=1) - whole @ problem.limits)


def _duals(problem: Problem, bound: Bound, pins: Sequence[Pin]) -> Floats:
    scaled = scaled_of(problem)
    root = bound.float_prices / scaled.units
    near = _near(scaled.relaxation, root)
    found = [_Batch.of(scaled.relaxation, near, layer, group).best(root) for layer, group in _by_layer(pins)]
    prices = np.vstack(found)
    return np.asarray(np.where(prices < NEGLIGIBLE, 0.0, prices) * scaled.units)


def _by_layer(pins: Sequence[Pin]) -> Iterator[tuple[int, list[Pin]]]:
    for layer, group in groupby(pins, key=lambda pin: pin.layer):
        yield layer, list(group)


def _near(relaxation: Relaxation, prices: Floats) -> Mask:
    """Return the mask of each layer's NEAR columns with the least slack."""
    reduced = relaxation.reduced(prices)
    layer = np.repeat(np.arange(len(relaxation.sizes)), relaxation.sizes)
    order = np.lexsort((reduced, layer))
    near = np.zeros(len(reduced), dtype=np.bool_)
    near[order] = np.arange(len(reduced)) - np.repeat(relaxation.start, relaxation.sizes) < NEAR
    return near


@dataclass(slots=True, eq=False)
class _Batch:
    """The pins of one layer on a reduced set of columns. `cost[pin][column]`: infinite if the pin excludes the column."""

    relaxation: Relaxation
    cost: Floats

    @classmethod
    def of(cls, relaxation: Relaxation, near: Mask, layer: int, pins: Sequence[Pin]) -> _Batch:
        keep = near.copy()
        begin = relaxation.start[layer]
        keep[begin : begin + relaxation.sizes[layer]] = True
        inner = relaxation.only(keep)
        cost = np.repeat(inner.cost[None], len(pins), axis=0)
        first = inner.start[layer]
        for own, pin in zip(cost, pins, strict=True):
            kept = own[first + pin.columns - begin]
            own[first : first + inner.sizes[layer]] = np.inf
            own[first + pin.columns - begin] = kept
        return cls(inner, cost)

    def best(self, root: Floats) -> Floats:
        """Return the best prices that the Newton steps find, [pin][row], starting from `root` for all pins."""
        prices = np.repeat(root[None], len(self.cost), axis=0)
        best, highest = prices, self._bound(prices)[1]
        for heat in HEATS:
            step, value = self._newton(prices, heat)
            moved = prices
            for share in STEPS:
                tried = np.maximum(prices + share * step, 0.0)
                smooth, bound = self._bound(tried, heat)
                moved = np.where((smooth > value)[:, None], tried, moved)
                value = np.maximum(value, smooth)
                best = np.where((bound > highest)[:, None], tried, best)
                highest = np.maximum(highest, bound)
            prices = moved
        return best

    def _bound(self, prices: Floats, heat: float = 1.0) -> tuple[Floats, Floats]:
        """Return the smoothed bound and the bound itself, [pins] each."""
        relaxation = self.relaxation
        reduced = self.cost + prices @ relaxation.rows
        least = np.minimum.reduceat(reduced, relaxation.start, axis=1)
        total = relaxation.sums(np.exp((np.repeat(least, relaxation.sizes, axis=1) - reduced) / heat))
        bound = least.sum(axis=1) - prices @ relaxation.limits
        return bound - heat * np.log(total).sum(axis=1), bound

    def _newton(self, prices: Floats, heat: float) -> tuple[Floats, Floats]:
        """Return a Newton step of each pin's smoothed bound, over the prices that may move, and the smoothed bound."""
        relaxation, rows = self.relaxation, self.relaxation.rows
        reduced = self.cost + prices @ rows
        least = np.minimum.reduceat(reduced, relaxation.start, axis=1)
        weights = np.exp((np.repeat(least, relaxation.sizes, axis=1) - reduced) / heat)
        total = relaxation.sums(weights)
        value = least.sum(axis=1) - heat * np.log(total).sum(axis=1) - prices @ relaxation.limits
        weights /= np.repeat(total, relaxation.sizes, axis=1)
        means = np.stack([relaxation.sums(weights * row) for row in rows], axis=1)
        gradient = means.sum(axis=2) - relaxation.limits
        products = (rows[:, None] * rows[None]).reshape(-1, rows.shape[1])
        second = (weights @ products.T).reshape(len(prices), len(rows), len(rows))
        curvature = (second - means @ means.transpose(0, 2, 1)) / heat
        free = (prices > 0) | (gradient > 0)
        size = np.maximum(np.trace(curvature, axis1=1, axis2=2), FREE)[:, None, None]
        both = free[:, :, None] & free[:, None, :]
        curvature = (
            np.where(both, curvature, 0.0) + size * np.eye(len(rows)) * np.where(free, FREE, 1.0)[:, None]
        )
        step = np.linalg.solve(curvature, np.where(free, gradient, 0.0)[:, :, None])[:, :, 0]
        longest = 4.0 * (1.0 + np.abs(prices).max(axis=1))
        with np.errstate(over="ignore"):  # of a step near 0: it may be as long as it is
            share = np.minimum(1.0, longest / np.maximum(np.abs(step).max(axis=1), 1e-300))
        return step * share[:, None], value
