"""Meet in the middle for many pins: the choices of some layers, listed once for all pins, indexed by what they use.

The layers are those whose choices are the smallest: they fill up what the others leave of the budgets, so they are most of a
sweep. A choice is left out where its slack is too large for every pin.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from puzzledsl.search.grid import Grid, grid_of
from puzzledsl.search.instance import Ints, Problem
from puzzledsl.search.interior import Floats
from puzzledsl.search.pin_prices import PinBounds

MOST = 60_000  # endings
CELLS = 12  # of the grid, an ending: labels are many, so it pays to try few of the endings
ROUNDING = 1e-9  # of the room for slack
UNIT = 2.0**20  # of the goal, in the grid


@dataclass(slots=True, eq=False)
class Endings:
    """`columns[place][ending]` of `layers[place]`; `goal[ending]` and `use[row][ending]` are what those add up to,
    `least[row]` the least use. `grid`: the same, indexed, once it is made."""

    layers: Ints
    columns: Ints
    goal: Ints
    use: Ints
    least: Ints
    grid: Grid | None = None

    def grid_for(self, bounds: PinBounds, left: Ints) -> Grid:
        """The grid, for labels that leave about `left` of the priced goal. Its axes are rows that have a price with every pin."""
        if self.grid is None:
            prices = bounds.whole / bounds.scale[:, None]
            weights = np.where((prices > 0).all(axis=0), np.maximum(prices.mean(axis=0) * UNIT, 1.0), 0.0)
            box = max(1, int(np.median(left / np.median(bounds.scale)) * UNIT))
            self.grid = grid_of(
                self.use - self.least[:, None], self.goal, weights.astype(np.int64), box, CELLS
            )
        return self.grid


def endings_of(problem: Problem, share: Floats, pinned: Ints, column: Ints, shares: Floats) -> Endings | None:
    """The endings over layers in which no pin is.

    `share[pin][layer]`: of a pin's room for slack, what the second best column needs (above 1: there is none). `shares`: of its
    room, what each of the pins' columns, `column`, needs.
    """
    least = np.full(len(problem.columns), np.inf)
    np.minimum.at(least, column, shares)
    typical = np.minimum(share, 1.0).mean(axis=0)
    typical[pinned] = np.inf
    order = np.argsort(typical, kind="stable")
    layers: list[int] = []
    slack, columns = np.zeros(1), np.zeros((0, 1), dtype=np.int64)
    for layer in order[typical[order] < 1.0].tolist():
        begin, end = int(problem.columns.start[layer]), int(problem.columns.start[layer + 1])
        here = begin + np.isfinite(least[begin:end]).nonzero()[0]
        after = slack[:, None] + least[here]
        before, which = (after <= 1.0 + ROUNDING).nonzero()
        if len(before) > MOST:
            break
        layers.append(layer)
        slack, columns = after[before, which], np.vstack([columns[:, before], here[which]])
    if not layers:
        return None
    use = problem.matrix[:, columns].sum(axis=1)
    return Endings(np.array(layers), columns, problem.goal.values[columns].sum(axis=0), use, use.min(axis=1))
