"""Best answers with all pins at once, where budgets are all there is: two-sided label setting.

A label is a choice for some layers, with its sums of the objective and of the rows. An answer with a pin is a column that has
it, an inner label of the other layers of its group, and an outside label of the layers outside the group. All pins of a group
share the outside labels, and all pins of a layer the inner ones. Labels of all layers but one each come from halving (`_others`).
A label is left out if at varied prices no pin can have an answer with it within the pin's limit. Sums are whole numbers up to
2^50, which floats hold exactly; priced sums have a tolerance far above their rounding errors, so that no answer is lost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from puzzledsl.search.effort import Effort
from puzzledsl.search.label_setting.labels import best_of_each
from puzzledsl.search.label_setting.resources import variations
from puzzledsl.search.problem.columns import Floats, Ints, Mask
from puzzledsl.search.problem.instance import Problem

GROUPS = 3
MOST_LABELS = 400_000  # labels of one list; with more, its pins are left out
MOST_PAIRS = 30_000_000  # pairs of labels tried for a layer
LARGEST_KEY, CLOSE = 1e8, 1e-6  # largest key of an outside label, and tolerance of keys
ROUNDING = 1e-10  # tolerance of priced sums, as a share of the largest
DOMINATED = 0.05  # share of dominated labels below which dominance is not looked for again
REST = 8  # layers for which it is not
SLABS = 5  # ranges of slack of outside labels
WIDTH = 0.4  # of a cell of outside labels, as a share of the largest room for slack


@dataclass(slots=True, eq=False)
class Labels:
    """Labels of some layers. `figures[0]`: objective; then the rows, [1 + rows][label]. `floor`: least priced sums of the layers.

    `step`: number of the label that each extends, its last column, and the labels before; None at the start.
    """

    figures: Floats
    floor: Floats
    step: tuple[Ints, Ints, Labels] | None = None

    def __len__(self) -> int:
        return int(self.figures.shape[1])

    def columns(self, label: int) -> list[int]:
        """Return the columns of a label."""
        found, labels = [], self
        while labels.step is not None:
            before, column, last = labels.step
            found.append(int(column[label]))
            label, labels = int(before[label]), last
        return found


class Priced:
    """Priced sums of a problem's columns: [way] is the objective at given prices, at varied prices, then each row alone."""

    def __init__(self, problem: Problem, prices: Floats) -> None:
        columns, rows = problem.columns, len(problem.rows)
        varied = np.array([*variations(prices, problem.row_sizes)])
        self.problem, self.prices, self.rest = problem, prices, 0
        self.figures = np.vstack([problem.goal.values, problem.matrix]).astype(np.float64)
        self.ways = np.vstack([np.insert(varied, 0, 1.0, axis=1), np.eye(rows, rows + 1, 1)])
        priced = self.ways @ self.figures
        self.least: Floats = columns.least(priced)
        self.above = priced - np.repeat(self.least, columns.sizes, axis=1)
        sizes = np.array([problem.goal_size, *problem.row_sizes])
        limits = self.ways @ np.array([0, *problem.limits]) - self.least.sum(axis=1)
        self.room: Floats = limits + ROUNDING * (self.ways @ sizes)

    def lower(self) -> Floats:
        """Return a lower bound on answers with each column; infinite if there are none."""
        over = self.above - self.room[:, None]
        priced = self.ways[:, 0] > 0
        return np.asarray(np.where((over[~priced] > 0).any(axis=0), np.inf, over[priced].max(axis=0)))

    def order(self) -> Ints:
        """Return the layers, clearest choices first."""
        columns = self.problem.columns
        clear = [float(np.sort(self.above[0, columns.span(i)])[:2].max()) for i in range(columns.layers)]
        return np.argsort(-np.array(clear), kind="stable")

    def slack(self, labels: Labels) -> Floats:
        """Return the slack of labels at the given prices."""
        return np.asarray(self.ways[0] @ labels.figures - labels.floor[0])

    def start(self) -> Labels:
        """Return the one label of no layers."""
        return Labels(np.zeros((len(self.figures), 1)), np.zeros(len(self.ways)))

    def extended(self, labels: Labels, layer: int, limits: Floats) -> Labels | None:
        """Extend labels by each column of a layer within limits, [way]; None if there are too many."""
        columns = self.problem.columns
        begin, end = int(columns.start[layer]), int(columns.start[layer + 1])
        here = begin + np.flatnonzero((self.above[:, begin:end] <= limits[:, None]).all(axis=0))
        i, j = (self.slack(labels)[:, None] + self.above[0, here] <= limits[0]).nonzero()
        if len(i) > MOST_LABELS:
            return None
        floor, column = labels.floor + self.least[:, layer], here[j]
        figures = labels.figures[:, i] + self.figures[:, column]
        fits = np.flatnonzero((self.ways @ figures <= (limits + floor)[:, None]).all(axis=0))
        if len(fits) < len(i):
            i, column, figures = i[fits], column[fits], figures[:, fits]
        if self.rest:
            self.rest -= 1
        elif len(i) > 1:
            whole = figures.astype(np.int64)
            keep = best_of_each(whole[1:], whole[0], np.zeros((0, len(i)), np.int64))
            if len(keep) > (1 - DOMINATED) * len(i):
                self.rest = REST
            if len(keep) < len(i):
                i, column, figures = i[keep], column[keep], figures[:, keep]
        return Labels(figures, floor, (i, column, labels))


def _others(
    parts: Sequence[Ints], labels: Labels | None, extend: Callable[[Labels, Ints, Ints], Labels | None]
) -> Iterator[tuple[Ints, Labels]]:
    """Yield each part of the layers, and the labels of the layers of all others: `labels` are those outside all parts."""
    if labels is None:
        return
    if len(parts) == 1:
        yield parts[0], labels
        return
    half = len(parts) // 2
    for mine, rest in ((parts[:half], parts[half:]), (parts[half:], parts[:half])):
        yield from _others(mine, extend(labels, np.concatenate(rest), np.concatenate(mine)), extend)


class _Outside:
    """Outside labels by range of slack, cell of the use of one row, and use of another; all in shares of the room for slack."""

    def __init__(self, priced: Priced, labels: Labels, room: float) -> None:
        self.prices, self.unit = priced.prices[:, None], max(room, 1.0)
        slack = priced.slack(labels) / self.unit
        use = labels.figures[1:] * self.prices / self.unit
        self.least = use.min(axis=1, keepdims=True)
        self.axes = np.argsort(-np.ptp(use, axis=1), kind="stable")[:2]
        first, last = self._along_axes(use)
        self.cells, self.span = int(first.max() / WIDTH) + 1, float(last.max()) + 2.0
        slab = np.clip((slack * SLABS).astype(np.int64), 0, SLABS - 1)
        self.slabs = [(s, float(slack[slab == s].min())) for s in np.unique(slab).tolist()]
        keys = (slab * self.cells + (first / WIDTH).astype(np.int64)) * self.span + last
        self.order = np.argsort(keys, kind="stable")
        self.keys, self.figures = keys[self.order], labels.figures[:, self.order]

    def _along_axes(self, use: Floats) -> tuple[Floats, Floats]:
        above = use - self.least
        return (above[self.axes[0]] if len(self.axes) > 1 else np.zeros(use.shape[1])), above[self.axes[-1]]

    def pairs(self, room: Floats, left: Floats) -> tuple[Ints, Ints] | None:
        """Return the pairs (model, outside label) with sums within `room` of each model, and slack within `left`.

        None if there are too many to try, or the keys are not precise enough.
        """
        if SLABS * self.cells * self.span > LARGEST_KEY:
            return None
        left = left / self.unit
        first, last = self._along_axes(room[1:] * self.prices / self.unit)
        last = np.minimum(last, self.span - 1.0)
        found, tried = [np.zeros((2, 0), dtype=np.int64)], 0
        for slab, low in self.slabs:
            some = (left >= low).nonzero()[0]
            rest, high = left[some] - low, np.minimum(np.floor(first[some] / WIDTH), self.cells - 1)
            lowest = np.floor(np.maximum(first[some] - rest, 0.0) / WIDTH)
            for step in range(int((high - lowest).max(initial=-1)) + 1):
                fits = (lowest + step <= high).nonzero()[0]
                model, cell = some[fits], lowest[fits] + step
                after = rest[fits] - np.maximum(first[model] - (cell + 1) * WIDTH, 0.0)
                at, top = (slab * self.cells + cell) * self.span, last[model]
                begin = np.searchsorted(self.keys, at + np.maximum(top - after, 0.0) - CLOSE)
                number = np.maximum(np.searchsorted(self.keys, at + top + CLOSE, "right") - begin, 0)
                tried += int(number.sum())
                if tried > MOST_PAIRS:
                    return None
                found.append(self._within(room, model, begin, number))
        models, part = np.hstack(found)
        return models, part

    def _within(self, room: Floats, model: Ints, begin: Ints, number: Ints) -> Ints:
        """Return the pairs [2][pair] of models and labels of their ranges that are within the models' room."""
        models = np.repeat(model, number)
        part = np.repeat(begin - np.cumsum(number) + number, number) + np.arange(len(models))
        for own, most in zip(self.figures, room, strict=True):
            fits = (own[part] <= most[models]).nonzero()[0]
            models, part = models[fits], part[fits]
        return np.vstack([models, self.order[part]])


def best_together(
    priced: Priced, owns: Sequence[Ints], most: Ints, effort: Effort
) -> tuple[Mask, list[Ints]]:
    """Find the best answer with a sum up to `most[pin]` for each pin.

    `owns[pin]`: the pin's columns, all of one layer. Return the mask of pins whose search is complete, and the answers found.
    """
    return _Search(priced, owns, most, effort).run()


class _Search:
    """See `best_together`. An entry is a pin with one of its columns; `limits[way][entry]`: what it leaves to other layers."""

    def __init__(self, priced: Priced, owns: Sequence[Ints], most: Ints, effort: Effort) -> None:
        self.priced, self.most, self.effort = priced, most, effort
        pin, column = np.repeat(np.arange(len(owns)), [*map(len, owns)]), np.concatenate(owns)
        limits = priced.room[:, None] + priced.ways[:, :1] * most[pin] - priced.above[:, column]
        good = (limits >= 0).all(axis=0)
        self.pin, self.column, self.limits = pin[good], column[good], limits[:, good]
        self.layer = priced.problem.columns.layer_of[self.column]
        self.complete, self.answers = np.ones(len(owns), dtype=np.bool_), list[Ints]()
        self.complete[self.pin] = False

    def run(self) -> tuple[Mask, list[Ints]]:
        """Meet the inner labels of each layer with the outside labels of its group."""
        order, start = self.priced.order(), self.priced.start()
        groups = [order[k::GROUPS] for k in range(min(GROUPS, len(order)))]
        for group, outside in _others(groups, start, self._extended):
            own = np.isin(self.layer, group)
            if not own.any() or not len(outside):
                self.complete[self.pin[own]] = True
                continue
            index = _Outside(self.priced, outside, float(self.limits[0, own].max()))
            for here, inner in _others(np.split(group, len(group)), start, self._extended):
                own = (self.layer == here[0]).nonzero()[0]
                if self.effort.left_s > 0 and len(own) * len(inner) <= MOST_PAIRS:
                    self._meet(own, inner, outside, index)
        return self.complete, self.answers

    def _extended(self, labels: Labels, rest: Ints, mine: Ints) -> Labels | None:
        """Extend labels by the layers `rest`, as far as entries of the layers `mine` allow; None if that is too much."""
        own = np.isin(self.layer, mine)
        limits = self.limits[:, own].max(axis=1, initial=0.0)
        found: Labels | None = labels if own.any() else None
        for layer in rest.tolist():
            if found is None or self.effort.left_s <= 0:
                return None
            found = self.priced.extended(found, layer, limits)
        return found

    def _meet(self, own: Ints, inner: Labels, outside: Labels, index: _Outside) -> None:
        """Keep the best answer of each pin of a layer, whose entries are `own`."""
        priced, problem = self.priced, self.priced.problem
        sums = priced.ways @ inner.figures - inner.floor[:, None]
        entry, label = (sums[0] <= self.limits[0, own][:, None]).nonzero()
        entry = own[entry]
        fits = np.flatnonzero((sums[1:, label] <= self.limits[1:, entry]).all(axis=0))
        entry, label = entry[fits], label[fits]
        used = inner.figures[:, label] + priced.figures[:, self.column[entry]]
        most = np.vstack([self.most[self.pin[entry]], np.repeat(problem.limits[:, None], len(entry), axis=1)])
        found = index.pairs(most - used, self.limits[0, entry] - sums[0, label])
        if found is None:
            return
        self.complete[self.pin[own]] = True
        model, part = found
        pins, goal = self.pin[entry[model]], used[0, model] + outside.figures[0, part]
        order = np.lexsort((goal, pins))
        for place in order[np.diff(pins[order], prepend=-1) > 0].tolist():
            m, p = int(model[place]), int(part[place])
            taken = [int(self.column[entry[m]]), *inner.columns(int(label[m])), *outside.columns(p)]
            chosen = np.empty(problem.columns.layers, dtype=np.int64)
            chosen[problem.columns.layer_of[taken]] = taken
            self.answers.append(chosen)
