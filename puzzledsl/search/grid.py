"""Which of many parts fit what others leave of the rows: a grid over what the parts use.

Whatever completes a model to a good answer nearly fills each row that has a price. With prices w, in units of the priced goal,
    sum over rows of w . (what is left of the row)  <=  what is left of the priced goal
so the parts that complete it lie in a small simplex, and the cells of the grid in that simplex have them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from puzzledsl.search.instance import Ints

AXES = 3  # of the grid: the rows that tell parts apart best
SPLIT = 4  # cells of the grid in the box of a model at the start
CELLS = 4  # of the grid, a part
PAIRS = 3000  # candidates a model: above, whoever asks does better without a grid
A_BLOCK = 100_000  # candidates that are tried at once


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """Parts, sorted by cell. `use[row][part]`, 0 or more, `goal[part]`; `axes`: the grid's rows, `widths` and `counts` of its
    cells; `first[cell]`: its first part; `order`: each part's place before they were sorted."""

    use: Ints
    goal: Ints
    axes: list[int]
    widths: list[int]
    counts: list[int]
    first: Ints
    order: Ints

    def candidates(self, room: Ints, left: Ints, weights: Ints) -> Iterator[tuple[Ints, Ints, Ints]]:
        """For models with `room[row][model]` and `left[model]` of the priced goal: models, first parts, numbers of parts."""
        high = [
            np.minimum(room[row] // width, count - 1)
            for row, width, count in zip(self.axes, self.widths, self.counts, strict=True)
        ]
        last = len(self.axes) - 1
        cells = [(np.arange(len(left)), np.zeros(len(left), dtype=np.int64), left)]
        for axis in range(last):
            cells = [
                step
                for models, at, rest in cells
                for step in self._steps(axis, models, at, rest, room[:, models], high[axis][models], weights)
            ]
        for models, at, rest in cells:
            low = self._low(last, models, rest, room[:, models], weights)
            some = (low <= high[last][models]).nonzero()[0]
            models, at, low = models[some], at[some] * self.counts[-1], low[some]
            begin = self.first[at + low]
            number = self.first[at + high[last][models] + 1] - begin
            some = number > 0
            yield models[some], begin[some], number[some]

    def _low(self, axis: int, models: Ints, rest: Ints, room: Ints, weights: Ints) -> Ints:
        """The first cell of an axis for models that leave at most `rest` of the priced goal."""
        row = self.axes[axis]
        weight = weights[row] if weights.ndim == 1 else weights[row][models]
        return np.asarray(np.maximum(room[row] - rest // weight, 0) // self.widths[axis])

    def _steps(
        self, axis: int, models: Ints, at: Ints, rest: Ints, room: Ints, high: Ints, weights: Ints
    ) -> Iterator[tuple[Ints, Ints, Ints]]:
        """Models with each cell of an axis in their box, and the priced goal that is left once the cell leaves what it must of
        the row."""
        row, width = self.axes[axis], self.widths[axis]
        weight = weights[row] if weights.ndim == 1 else weights[row][models]
        low = self._low(axis, models, rest, room, weights)
        for step in range(int((high - low).max(initial=-1)) + 1):
            cell = low + step
            fits = (cell <= high).nonzero()[0]
            if len(fits):
                cell = cell[fits]
                own = weight if weights.ndim == 1 else weight[fits]
                spent = own * np.maximum(room[row][fits] - (cell + 1) * width + 1, 0)
                yield models[fits], at[fits] * self.counts[axis] + cell, rest[fits] - spent


def grid_of(use: Ints, goal: Ints, weights: Ints, box: int, cells: int = CELLS) -> Grid:
    """The grid of some parts, for boxes as wide as `box` of the priced goal is in each row; some row has a weight. It has about
    `cells` cells a part, or fewer."""
    most = use.max(axis=1)
    spans = [(int(most[row]) * int(w) / max(box, 1), row) for row, w in enumerate(weights.tolist()) if w]
    axes = sorted(row for _, row in sorted(spans, reverse=True)[:AXES])
    widths = [max(1, box // (int(weights[row]) * SPLIT)) for row in axes]
    while True:
        counts = [int(most[row]) // width + 1 for row, width in zip(axes, widths, strict=True)]
        if np.prod(np.array(counts, dtype=np.float64)) <= cells * len(goal) + 8:
            break
        widths = [2 * width if width <= most[row] else width for row, width in zip(axes, widths, strict=True)]
    cell = np.zeros(len(goal), dtype=np.int64)
    for row, width, count in zip(axes, widths, counts, strict=True):
        cell = cell * count + use[row] // width
    order = np.argsort(cell, kind="stable")
    first = np.zeros(int(np.prod(counts)) + 1, dtype=np.int64)
    np.cumsum(np.bincount(cell, minlength=len(first) - 1), out=first[1:])
    return Grid(use[:, order], goal[order], axes, widths, counts, first, order)


def pairs_of(
    grid: Grid, room: Ints, left: Ints, weights: Ints, spare: Ints, most: int = PAIRS
) -> tuple[Ints, Ints, int] | None:
    """The models and the parts that complete them within every row, where their goal is at most `spare[model]`; and how many were
    tried. None where that would be more than `most` a model."""
    found = [*grid.candidates(room, left, weights)]
    tried = sum(int(number.sum()) for _, _, number in found)
    if tried > most * room.shape[1]:
        return None
    pairs = [np.zeros((2, 0), dtype=np.int64)]
    for all_models, all_begins, all_numbers in found:
        block = np.cumsum(all_numbers) // A_BLOCK
        for ends in np.split(np.arange(len(block)), np.diff(block).nonzero()[0] + 1):
            model, begin, number = all_models[ends], all_begins[ends], all_numbers[ends]
            models = np.repeat(model, number)
            part = np.repeat(begin - np.cumsum(number) + number, number) + np.arange(len(models))
            fits = grid.goal[part] <= spare[models]
            models, part = models[fits], part[fits]
            for row, use in zip(room, grid.use, strict=True):
                fits = use[part] <= row[models]
                models, part = models[fits], part[fits]
            pairs.append(np.vstack([models, part]))
    models, part = np.hstack(pairs)
    return models, part, tried
