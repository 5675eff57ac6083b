"""Meet in the middle for many pins: suffixes over some layers, listed once for all pins and indexed by resource use.

The layers are those whose choices differ least. They fill up the rest of the budgets, so they take most of a sweep. A suffix is
left out if its slack is too large for every pin.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from puzzledsl.search.label_setting.grid import Grid, grid_of
from puzzledsl.search.problem.columns import Floats, Ints
from puzzledsl.search.problem.instance import Problem
from puzzledsl.search.sensitivity.pin_prices import PinBounds

MOST = 60_000  # most suffixes
CELLS = 12  # grid cells per suffix; labels are many, so trying few suffixes pays off
ROUNDING = 1e-9  # tolerance, as a share of the room for slack
UNIT = 2.0**20  # weight of the objective in the grid's integer prices


@dataclass(slots=True, eq=False)
class PinSuffixes:
    """Suffixes over `layers`: `columns[place][suffix]` is the column of `layers[place]`.

    `goal[suffix]` and `use[row][suffix]`: objective and resource use. `least[row]`: least use of any suffix. `grid`: the index,
    built on first use.
    """

    layers: Ints
    columns: Ints
    goal: Ints
    use: Ints
    least: Ints
    grid: Grid | None = None

    def grid_for(self, bounds: PinBounds, left: Ints) -> Grid:
        """Return the grid, built for labels with about `left` room of the priced objective.

        Its dimensions are rows that have a price with every pin.
        """
        if self.grid is None:
            prices = bounds.whole / bounds.scale[:, None]
            weights = np.where((prices > 0).all(axis=0), np.maximum(prices.mean(axis=0) * UNIT, 1.0), 0.0)
            box = max(1, int(np.median(left / np.median(bounds.scale)) * UNIT))
            self.grid = grid_of(
                self.use - self.least[:, None], self.goal, weights.astype(np.int64), box, CELLS
            )
        return self.grid


def pin_suffixes_of(
    problem: Problem, share: Floats, pinned: Ints, column: Ints, shares: Floats
) -> PinSuffixes | None:
    """List the suffixes over layers without a pin; None if there are no suitable layers.

    `share[pin][layer]`: slack of the layer's second best column as a share of the pin's room (above 1: there is none). `pinned`:
    layers with pins. `column` and `shares`: columns of all pins, and the share of its pin's room that each needs.
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
    return PinSuffixes(
        np.array(layers), columns, problem.goal.values[columns].sum(axis=0), use, use.min(axis=1)
    )
