"""Meet in the middle: suffixes over the last layers, indexed by resource use, to complete partial models by lookup.

The last layers have the near-tied choices that use up the rest of the budgets, where label setting has the most labels.

Orthogonal range search: a grid over the resource use of parts (suffixes) finds those that complete partial models. A part that
completes a model to a good answer nearly exhausts each row that has a price. With prices w,
    sum over rows of w . (room left of the row)  <=  room left of the priced objective
so the candidates lie in a small simplex, and only the grid cells in it are looked at.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from time import monotonic

import numpy as np

from puzzledsl.search.label_setting.labels import Short, Step, added, best_of_each
from puzzledsl.search.label_setting.layout import Layout
from puzzledsl.search.label_setting.resources import Resources
from puzzledsl.search.problem.columns import Ints

TOGETHER = 4096  # models that are looked up at once
AT_A_STAGE = 220_000  # most suffixes of a stage before dominance
AXES = 3  # most dimensions of the grid: the rows that discriminate best between parts
SPLIT = 4  # initial number of cells along each side of a model's box
CELLS = 4  # about the most cells per part
PAIRS = 3000  # candidates per model; with more, the caller does better without a grid
A_BLOCK = 100_000  # candidates tried at once


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """Parts sorted by cell of the grid.

    `use[row][part]` >= 0 and `goal[part]`: resource use and objective. `axes`: rows that are the grid's dimensions, with `widths`
    and `counts` of the cells. `first[cell]`: first part of a cell. `order[part]`: the part's place before sorting.
    """

    use: Ints
    goal: Ints
    axes: list[int]
    widths: list[int]
    counts: list[int]
    first: Ints
    order: Ints

    def candidates(self, room: Ints, left: Ints, weights: Ints) -> Iterator[tuple[Ints, Ints, Ints]]:
        """Yield (models, first parts, numbers of parts) of candidates. `left`: room of the priced objective."""
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
            low = self._low(last, rest, room[:, models], weights)
            some = (low <= high[last][models]).nonzero()[0]
            models, at, low = models[some], at[some] * self.counts[-1], low[some]
            begin = self.first[at + low]
            number = self.first[at + high[last][models] + 1] - begin
            some = number > 0
            yield models[some], begin[some], number[some]

    def _low(self, axis: int, rest: Ints, room: Ints, weights: Ints) -> Ints:
        """Return the first cell of an axis for models that may waste at most `rest` of the priced objective."""
        row = self.axes[axis]
        return np.asarray(np.maximum(room[row] - rest // weights[row], 0) // self.widths[axis])

    def _steps(
        self, axis: int, models: Ints, at: Ints, rest: Ints, room: Ints, high: Ints, weights: Ints
    ) -> Iterator[tuple[Ints, Ints, Ints]]:
        """Yield models, each cell of an axis in their box, and the priced objective left after the room that the cell wastes."""
        row, width = self.axes[axis], self.widths[axis]
        low = self._low(axis, rest, room, weights)
        for step in range(int((high - low).max(initial=-1)) + 1):
            cell = low + step
            fits = (cell <= high).nonzero()[0]
            if len(fits):
                cell = cell[fits]
                spent = weights[row] * np.maximum(room[row][fits] - (cell + 1) * width + 1, 0)
                yield models[fits], at[fits] * self.counts[axis] + cell, rest[fits] - spent


@dataclass(frozen=True, slots=True, eq=False)
class Suffixes:
    """Suffixes over the last layers, indexed by resource use."""

    grid: Grid
    step: Step

    def columns(self, suffixes: Ints) -> Ints:
        """Return the columns of some suffixes, [suffix][layer], first layer first."""
        return self.step.columns(self.grid.order[suffixes]).T


class SuffixTable:
    """Suffixes from the last stages on, as many stages as fit into a total of `most` suffixes."""

    def __init__(self, layout: Layout, resources: Resources, most: int, deadline: float | None) -> None:
        self.resources = resources
        self.plain: dict[int, tuple[Ints, Ints, Step]] = {}  # not indexed yet: (use, objective, first step)
        self.gridded: dict[int, Suffixes] = {}
        sums, goal = np.zeros((len(resources.limits), 1), np.int64), np.zeros(1, np.int64)
        places = layout.words
        words = np.zeros((len(places), 1), np.int64)
        step: Step | None = None
        stage = len(layout.order) if resources.weights.any() else 0
        while stage > layout.stages:
            if deadline is not None and monotonic() > deadline:
                break
            stage -= 1
            grown = _grown(resources, *layout.columns(stage), sums, min(most, AT_A_STAGE))
            if grown is None or not len(grown[0]):
                break
            column, suffix = grown
            most -= len(suffix)
            goal, words = layout.goal[column] + goal[suffix], added(places, words, column, suffix)
            rows = slice(0, resources.rows)
            keep = best_of_each(added(resources.deltas[rows], sums[rows], column, suffix), goal, words)
            column, suffix, goal, words = column[keep], suffix[keep], goal[keep], words[:, keep]
            sums, step = added(resources.deltas, sums, column, suffix), Step(suffix, column, step)
            self.plain[stage] = sums[: resources.rows].copy(), goal, step

    def at(self, stage: int) -> Suffixes | None:
        """Return the suffixes from a stage on; None if they are not listed."""
        if stage not in self.gridded and stage in self.plain:
            use, goal, step = self.plain.pop(stage)
            box = int(self.resources.room[self.resources.rows])
            self.gridded[stage] = Suffixes(grid_of(use, goal, self.resources.weights, box), step)
        return self.gridded.get(stage)


def _grown(resources: Resources, begin: int, end: int, sums: Ints, most: int) -> tuple[Short, Short] | None:
    """Extend suffixes by the columns of the layer before, within all limits: (columns, suffixes), or None if more than `most`."""
    main, limits = resources.rows, resources.room
    column, suffix = (resources.deltas[main, begin:end, None] + sums[main] <= limits[main]).nonzero()
    for resource in range(len(limits)):
        fits = resources.deltas[resource, begin:end][column] + sums[resource][suffix] <= limits[resource]
        column, suffix = column[fits], suffix[fits]
    if len(column) > most:
        return None
    column += begin
    return column.astype(np.int32), suffix.astype(np.int32)


def grid_of(use: Ints, goal: Ints, weights: Ints, box: int, cells: int = CELLS) -> Grid:
    """Build the grid of parts. `weights`: prices by row, some positive. `box`: typical room of the priced objective."""
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


def pairs_of(grid: Grid, room: Ints, left: Ints, weights: Ints, spare: Ints) -> tuple[Ints, Ints, int] | None:
    """Return the (models, parts) that fit into `room[row][model]` and `spare`, and candidates tried; None if too many."""
    found = [*grid.candidates(room, left, weights)]
    tried = sum(int(number.sum()) for _, _, number in found)
    if tried > PAIRS * room.shape[1]:
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
