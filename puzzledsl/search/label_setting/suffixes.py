"""Meet in the middle: suffixes over the last layers, indexed by resource use, to complete partial models by lookup.

The last layers have the near-tied choices that use up the rest of the budgets, where label setting has the most labels.

Orthogonal range search: an index of parts (suffixes) by resource use finds those that complete partial models. A part that
completes a model to a good answer nearly exhausts each row that has a price. With prices w,
    slack of the part + sum over rows of w . (room left of the row)  <=  room left of the priced objective
so the candidates lie in a small simplex. Uses are floats in shares of that room, with a tolerance far above their rounding.
"""

from __future__ import annotations

from dataclasses import dataclass
from time import monotonic

import numpy as np

from puzzledsl.search.label_setting.labels import Layout, Resources, Short, Step, added, best_of_each
from puzzledsl.search.problem.columns import Floats, Ints

TOGETHER = 2048  # models that are looked up at once
AT_A_STAGE = 220_000  # most suffixes of a stage before dominance
PAIRS = 3000  # candidates per model; with more, the caller does better without suffixes
LARGEST_KEY, CLOSE = 1e9, 1e-6  # largest key of a part, and tolerance of keys
SLABS = 5  # ranges of slack of parts
WIDTH = 0.4  # of a cell, as a share of the room for slack
Numbers = Ints | Floats


class Index:
    """Parts by range of slack, cell of the use of one row, and use of another; all in shares of the room for slack.

    `figures[0]`: objective; then the rows, [1 + rows][part]. `slack[part]`: at `prices`. `room`: typical room for slack.
    """

    def __init__(self, figures: Numbers, slack: Numbers, prices: Numbers, room: float) -> None:
        self.prices, self.unit = prices[:, None] / max(room, 1.0), max(room, 1.0)
        slack, use = slack / self.unit, figures[1:] * self.prices
        self.least = use.min(axis=1, keepdims=True)
        self.axes = np.argsort(-np.ptp(use, axis=1), kind="stable")[:2]
        first, last = self._along_axes(use)
        self.cells, self.span = int(first.max() / WIDTH) + 1, float(last.max()) + 2.0
        slab = np.clip((slack * SLABS).astype(np.int64), 0, SLABS - 1)
        self.slabs = [(s, float(slack[slab == s].min())) for s in np.unique(slab).tolist()]
        keys = (slab * self.cells + (first / WIDTH).astype(np.int64)) * self.span + last
        self.order = np.argsort(keys, kind="stable")
        self.keys, self.figures = keys[self.order], figures[:, self.order]

    def _along_axes(self, use: Floats) -> tuple[Floats, Floats]:
        above = use - self.least
        return (above[self.axes[0]] if len(self.axes) > 1 else np.zeros(use.shape[1])), above[self.axes[-1]]

    def pairs(self, room: Numbers, left: Numbers, most: int) -> tuple[Ints, Ints, int] | None:
        """Return the pairs (model, part) with figures within `room` of each model and slack within `left`, and the number tried.

        None if there are more than `most` to try, or the keys are not precise enough.
        """
        if SLABS * self.cells * self.span > LARGEST_KEY:
            return None
        left = left / self.unit
        first, last = self._along_axes(room[1:] * self.prices)
        last = np.minimum(last, self.span - 1.0)
        found, tried = [np.zeros((2, 0), dtype=np.int64)], 0
        for slab, low in self.slabs:
            some = (left >= low - CLOSE).nonzero()[0]
            rest, high = (
                left[some] - low + CLOSE,
                np.minimum(np.floor(first[some] / WIDTH + CLOSE), self.cells - 1),
            )
            lowest = np.floor(np.maximum(first[some] - rest, 0.0) / WIDTH)
            for step in range(int((high - lowest).max(initial=-1)) + 1):
                fits = (lowest + step <= high).nonzero()[0]
                model, cell = some[fits], lowest[fits] + step
                after = rest[fits] - np.maximum(first[model] - (cell + 1) * WIDTH, 0.0)
                at, top = (slab * self.cells + cell) * self.span, last[model]
                begin = np.searchsorted(self.keys, at + np.maximum(top - after, 0.0) - CLOSE)
                number = np.maximum(np.searchsorted(self.keys, at + top + CLOSE, "right") - begin, 0)
                tried += int(number.sum())
                if tried > most:
                    return None
                found.append(self._within(room, model, begin, number))
        models, part = np.hstack(found)
        return models, part, tried

    def _within(self, room: Numbers, model: Ints, begin: Ints, number: Ints) -> Ints:
        """Return the pairs [2][pair] of models and parts of their ranges that are within the models' room."""
        models = np.repeat(model, number)
        part = np.repeat(begin - np.cumsum(number) + number, number) + np.arange(len(models))
        for own, most in zip(self.figures, room, strict=True):
            fits = (own[part] <= most[models]).nonzero()[0]
            models, part = models[fits], part[fits]
        return np.vstack([models, self.order[part]])


@dataclass(frozen=True, slots=True, eq=False)
class Suffixes:
    """Suffixes over the last layers: their objective, how to read back the columns, and their index by resource use."""

    goal: Ints
    step: Step
    index: Index


class SuffixTable:
    """Suffixes from the last stages on, as many stages as fit into a total of `most` suffixes."""

    def __init__(self, layout: Layout, resources: Resources, most: int, deadline: float) -> None:
        self.resources = resources
        self.plain: dict[
            int, tuple[Ints, Ints, Step]
        ] = {}  # not indexed yet: (rows and slack, objective, first step)
        self.indexed: dict[int, Suffixes] = {}
        sums, goal = np.zeros((len(resources.limits), 1), np.int64), np.zeros(1, np.int64)
        places = layout.words
        words = np.zeros((len(places), 1), np.int64)
        step: Step | None = None
        stage = len(layout.order) if resources.weights.any() else 0
        while stage > layout.stages:
            if monotonic() > deadline:
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
            self.plain[stage] = sums[: resources.rows + 1].copy(), goal, step

    def at(self, stage: int) -> Suffixes | None:
        """Return the suffixes from a stage on; None if they are not listed."""
        if stage not in self.indexed and stage in self.plain:
            sums, goal, step = self.plain.pop(stage)
            figures, room = np.vstack([goal, sums[:-1]]), float(self.resources.room[self.resources.rows])
            index = Index(figures, sums[-1], self.resources.weights, room)
            self.indexed[stage] = Suffixes(goal, step, index)
        return self.indexed.get(stage)


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
