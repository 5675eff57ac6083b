"""How partial models may end: every way through the last layers, kept by what it uses, so that those that complete a model are
looked up instead of grown.

The last layers hold the small choices that fill up budgets, where sweeps see the most models. Whatever completes a model to a
good answer nearly fills each row that has a price: with prices w, in the units of the priced goal,
    sum over rows of w . (what is left of the row)  <=  what is left of the priced goal
so a model's completions lie in a small box, and a grid over the tails' use of rows finds them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from puzzledsl.search.instance import Ints
from puzzledsl.search.layout import Layout
from puzzledsl.search.merging import added, best_of_each
from puzzledsl.search.meters import Meters

AXES = 3  # of the grid: the rows that tell tails apart best
SPLIT = 4  # cells of the grid in the box of a model at the start
CELLS = 4  # of the grid, a tail
PAIRS = 3000  # candidates a model: above, it is cheaper to go on layer by layer
TOGETHER = 4096  # models that are looked up at once
A_BLOCK = 100_000  # candidates that are tried at once
AT_A_STAGE = 220_000  # tails before those that use the same are merged
READ = 9  # priced goals that tails are held to
Short = NDArray[np.int32]


@dataclass(frozen=True, slots=True, eq=False)
class _Link:
    """How each tail goes on: its first column, and which tail of the layers after that."""

    column: Short
    tail: Short
    next: _Link | None


@dataclass(frozen=True, slots=True, eq=False)
class Tails:
    """Ways through the last layers, sorted by cell. `use[row][tail]`, `goal[tail]`; `axes`: the grid's rows, `widths` and
    `counts` of its cells; `first[cell]`: its first tail; `order`: of the links."""

    use: Ints
    goal: Ints
    axes: list[int]
    widths: list[int]
    counts: list[int]
    first: Ints
    order: Ints
    link: _Link

    def columns(self, tails: Ints) -> Ints:
        """[tail][layer]: the columns of some tails, first layer first."""
        found: list[Ints] = []
        link: _Link | None = self.link
        at = self.order[tails]
        while link is not None:
            found.append(link.column[at].astype(np.int64))
            at, link = link.tail[at].astype(np.int64), link.next
        return np.array(found).T

    def candidates(self, room: Ints, left: Ints, weights: Ints) -> Iterator[tuple[Ints, Ints, Ints]]:
        """For models with `room[row][model]` and `left[model]` of the priced goal: models, first tails, numbers of tails."""
        low, high = [], []
        for row, width, count in zip(self.axes, self.widths, self.counts, strict=True):
            high.append(np.minimum(room[row] // width, count - 1))
            low.append(np.maximum(room[row] - left // weights[row], 0) // width)
        flat, last = self.counts[-1], len(self.axes) - 1
        open_ = (low[last] <= high[last]).nonzero()[0]
        cells = [(open_, np.zeros(len(open_), dtype=np.int64))]
        for axis in range(last):
            cells = [
                (models[fits], at[fits] * self.counts[axis] + low[axis][models[fits]] + step)
                for models, at in cells
                for step in range(int((high[axis] - low[axis]).max(initial=-1)) + 1)
                if (fits := low[axis][models] + step <= high[axis][models]).any()
            ]
        for models, at in cells:
            begin = self.first[at * flat + low[last][models]]
            number = self.first[at * flat + high[last][models] + 1] - begin
            some = number > 0
            yield models[some], begin[some], number[some]


class Endings:
    """The tails of the last layers, as far from the end as `most` of them together reach."""

    def __init__(self, layout: Layout, meters: Meters, most: int) -> None:
        self.meters = meters
        self.plain: dict[int, tuple[Ints, Ints, _Link]] = {}  # use, goal
        self.gridded: dict[int, Tails] = {}
        meters = meters.first(READ)
        sums, goal = np.zeros((len(meters.limits), 1), np.int64), np.zeros(1, np.int64)
        places = layout.words[0 if layout.marks is None else layout.marks.words :]
        words = np.zeros((len(places), 1), np.int64)
        link: _Link | None = None
        stage = len(layout.order) if meters.weights.any() else 0
        while stage > 0 and not layout.due[stage - 1]:
            stage -= 1
            grown = _grown(meters, *layout.columns(stage), sums, min(most, AT_A_STAGE))
            if grown is None or not len(grown[0]):
                break
            column, tail = grown
            most -= len(tail)
            goal, words = layout.goal[column] + goal[tail], added(places, words, column, tail)
            rows = slice(0, meters.rows)
            keep = best_of_each(added(meters.deltas[rows], sums[rows], column, tail), goal, words)
            column, tail, goal, words = column[keep], tail[keep], goal[keep], words[:, keep]
            sums, link = added(meters.deltas, sums, column, tail), _Link(column, tail, link)
            self.plain[stage] = sums[: meters.rows].copy(), goal, link

    def at(self, stage: int) -> Tails | None:
        """The tails from a stage on; None where there are too many of them."""
        if stage not in self.gridded and stage in self.plain:
            self.gridded[stage] = _gridded(*self.plain.pop(stage), self.meters)
        return self.gridded.get(stage)


def _grown(meters: Meters, begin: int, end: int, sums: Ints, most: int) -> tuple[Short, Short] | None:
    """Each column of a layer before each tail, where no meter is above its limit: columns, tails."""
    main, limits = meters.rows, meters.limits
    column, tail = (meters.deltas[main, begin:end, None] + sums[main] <= limits[main]).nonzero()
    for meter in range(len(limits)):
        fits = meters.deltas[meter, begin:end][column] + sums[meter][tail] <= limits[meter]
        column, tail = column[fits], tail[fits]
    if len(column) > most:
        return None
    column += begin
    return column.astype(np.int32), tail.astype(np.int32)


def _gridded(use: Ints, goal: Ints, link: _Link, meters: Meters) -> Tails:
    most, box = use.max(axis=1), meters.limits[meters.rows]
    spans = [
        (int(most[row]) * int(w) / max(int(box), 1), row)
        for row, w in enumerate(meters.weights.tolist())
        if w
    ]
    axes = sorted(row for _, row in sorted(spans, reverse=True)[:AXES])
    widths = [max(1, int(box) // (int(meters.weights[row]) * SPLIT)) for row in axes]
    while True:
        counts = [int(most[row]) // width + 1 for row, width in zip(axes, widths, strict=True)]
        if np.prod(np.array(counts, dtype=np.float64)) <= CELLS * len(goal) + 8:
            break
        widths = [2 * width if width <= most[row] else width for row, width in zip(axes, widths, strict=True)]
    cell = np.zeros(len(goal), dtype=np.int64)
    for row, width, count in zip(axes, widths, counts, strict=True):
        cell = cell * count + use[row] // width
    order = np.argsort(cell, kind="stable")
    first = np.searchsorted(cell[order], np.arange(int(np.prod(counts)) + 1))
    return Tails(use[:, order], goal[order], axes, widths, counts, first, order, link)


def pairs_of(
    tails: Tails, room: Ints, left: Ints, weights: Ints, spare: Ints
) -> tuple[Ints, Ints, int] | None:
    """The models and the tails that complete them within every row, where their goal is at most `spare[model]`; and how many were
    tried. None where that would be too many."""
    found = [*tails.candidates(room, left, weights)]
    tried = sum(int(number.sum()) for _, _, number in found)
    if tried > PAIRS * room.shape[1]:
        return None
    pairs = [np.zeros((2, 0), dtype=np.int64)]
    for all_models, all_begins, all_numbers in found:
        block = np.cumsum(all_numbers) // A_BLOCK
        for ends in np.split(np.arange(len(block)), np.diff(block).nonzero()[0] + 1):
            model, begin, number = all_models[ends], all_begins[ends], all_numbers[ends]
            models = np.repeat(model, number)
            tail = np.repeat(begin - np.cumsum(number) + number, number) + np.arange(len(models))
            fits = tails.goal[tail] <= spare[models]
            models, tail = models[fits], tail[fits]
            for row, use in zip(room, tails.use, strict=True):
                fits = use[tail] <= row[models]
                models, tail = models[fits], tail[fits]
            pairs.append(np.vstack([models, tail]))
    models, tail = np.hstack(pairs)
    return models, tail, tried
