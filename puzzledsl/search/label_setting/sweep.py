"""Label setting for the resource-constrained shortest path (Irnich & Desaulniers 2005), one layer at a time, as arrays.

A label is a partial assignment that may still become a good answer. It is pruned if a resource exceeds its limit (`labels.py`),
or if a label with the same use of every row (with one row: no more of it) is better, or as good and first in the order of the
space. Of too many labels, the most promising are extended first. With a `width` the others are discarded (beam search).

Meet in the middle: the last layers have the near-tied choices that use up the rest of the budgets. After many labels, suffixes
over them are listed and looked up by resource use (orthogonal range search). A suffix that completes a label to a good answer
nearly exhausts each row that has a price. With prices w,
    slack of the suffix + sum over rows of w . (room left of the row)  <=  room left of the priced objective
so the candidates lie in a small simplex. Uses are floats in shares of that room, with a tolerance far above their rounding.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import inf
from time import monotonic

import numpy as np

from puzzledsl.search.label_setting.labels import Labels, Layout, Resources, Step, added, best_of_each
from puzzledsl.search.lagrangian.bound import Bound
from puzzledsl.search.problem.columns import Floats, Ints
from puzzledsl.search.problem.instance import Outcome, Problem

AT_ONCE = 2048  # labels that are looked up at once
AT_A_STAGE = 220_000  # most suffixes of a stage before dominance
PAIRS = 3000  # candidates per model; with more, the caller does better without suffixes
LARGEST_KEY, CLOSE = 1e9, 1e-6  # largest key of a part, and tolerance of keys
SLABS = 5  # ranges of slack of parts
WIDTH = 0.4  # of a cell, as a share of the room for slack
Numbers = Ints | Floats


class Index:
    """Partial answers ("parts") sorted by range of slack, cell of one row's use, and another row's use, for range search.

    `figures` [1 + rows][part]: objective, then rows. `slack[part]`: at `prices`. `room`: typical room for slack.
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
        """Return (models, parts, number tried): all pairs of a model (a label) and a part whose figures are within its room.

        `room` [1 + rows][model]; `left` [model]: room for slack. None if over `most` are to try, or keys are not precise enough.
        """
        if SLABS * self.cells * self.span > LARGEST_KEY:
            return None
        left = left / self.unit
        first, last = self._along_axes(room[1:] * self.prices)
        last = np.minimum(last, self.span - 1.0)
        found, tried = [np.zeros((2, 0), dtype=np.int64)], 0
        for slab, low in self.slabs:
            some = (left >= low - CLOSE).nonzero()[0]
            rest = left[some] - low + CLOSE
            high = np.minimum(np.floor(first[some] / WIDTH + CLOSE), self.cells - 1)
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
        """Return [2][pair] models and parts within their room; a model tries the `number` sorted parts from `begin` on."""
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
    """Suffixes (choices for all layers from a stage on), listed from the last stage backwards, up to `most` in total."""

    def __init__(self, layout: Layout, resources: Resources, most: int, deadline: float) -> None:
        self.resources = resources
        self.plain: dict[int, tuple[Ints, Ints, Step]] = {}  # to index: (rows and slack, objective, step)
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
            grown = resources.extended(*layout.columns(stage), sums, min(most, AT_A_STAGE))
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


TOGETHER = 3000  # labels extended at once
MANY = 32_000  # the same, once there are suffixes: the more at once, the more are dominated
WORTH = 0.05  # share of dominated labels below which dominance checks pause
PAUSE = 3  # layers for which they pause
A_GROUP = 8  # resources checked at a time
FIRST_SUFFIXES = 20_000  # labels after which suffixes are listed for the first time
MORE_SUFFIXES = 5  # growth of that number before they are listed again, further up
MOST_SUFFIXES = 2_000_000
PAIRS_A_LABEL = 30  # candidate suffixes that take as long as one label
AT_A_TIME = 4_000_000  # most sums of labels extended at once: 32 MB
MOST_HELD = 40_000_000  # numbers that waiting labels may take, 320 MB; with more, other engines do better


def sweep_of(
    problem: Problem,
    bound: Bound,
    most: int,
    known: int | None = None,
    *,
    width: int | None = None,
    deadline: float = inf,
) -> Sweep | None:
    """Prepare a sweep of a problem for answers with sums up to `most`; None if its integers or formulas are too large.

    `known`: sum of a known answer; answers up to it are kept even above `most`. `width`: labels kept at each layer (beam search),
    None for all. With a `width`, or after the deadline (monotonic clock), the sweep is incomplete.
    """
    layout = Layout.of(problem, bound, most)
    return None if layout is None else Sweep(layout, most, known, width, deadline)


class _Late(Exception):
    """Raised when the deadline has passed."""


class Sweep:
    """Label setting over all layers, which can be interrupted after a number of labels and continued."""

    def __init__(
        self, layout: Layout, most: int, known: int | None, width: int | None, deadline: float
    ) -> None:
        self.layout, self.resources = layout, layout.resources.at(most)
        self.known = most if known is None else known
        self.width, self.deadline = width, deadline
        self.last: int | None = None  # value of `done` at which it stops
        self.waiting: list[tuple[Labels, int]] = []  # with a lower bound on the objectives of completions
        self.best = Outcome()  # of the answers found; it may be above the limit
        self.first: tuple[int, tuple[int, ...]] | None = None  # objective and place of `best`
        self.done = self.pause = 0
        self.held = 0  # numbers that waiting labels take
        self.suffix_table: SuffixTable | None = None
        self.next_suffixes = FIRST_SUFFIXES  # value of `done` at which suffixes are listed next
        if not layout.hopeless and not (self.resources.room < 0).any():
            none = np.zeros((len(self.resources.limits), 1), np.int64)
            self._wait(Labels(0, none, none[0], layout.first_words[:, None], none[0], None))

    def tighten(self, value: int) -> None:
        """Lower the limit to the sum of an answer found elsewhere, if that is less; worse answers found before are forgotten."""
        if value < self.known:
            self.known = value
            self.best = Outcome()
            self.resources = self.resources.at(min(value, self.resources.most))

    def run(self, work: int | None = None) -> Outcome:
        """Sweep all layers; stop after `work` more labels, if given. Return the best answer so far, even above the limit.

        If `proven`, an answer within the limit is the canonical best one; without one, there is none. If not, `bound` is a proven
        lower bound on the sums of answers within the limit; a finished beam search has none.
        """
        self.last = None if work is None else self.done + work
        while self.waiting:
            if self._stops():
                least = min(least for _, least in self.waiting)
                return replace(self.best, bound=min(least, self.resources.most))
            labels, _ = self.waiting.pop()
            self.held -= labels.sums.size
            self._follow(self._hopeful(labels))
        return replace(self.best, proven=self.width is None)

    def _stops(self) -> bool:
        return (self.last is not None and self.done > self.last) or self._late() or self.is_full

    @property
    def is_full(self) -> bool:
        """True if the labels that wait take too much memory to go on."""
        return self.held > MOST_HELD

    def _late(self) -> bool:
        return monotonic() > self.deadline

    def _hopeful(self, labels: Labels) -> Labels:
        """Return the labels that are still within the limits, which may have become lower."""
        rows = self.resources.rows
        fits = self._at_least(labels)[rows:] <= self.resources.limits[rows:, None]
        return labels.only(np.asarray(fits.all(axis=0)))

    def _at_least(self, labels: Labels) -> Ints:
        """Return lower bounds on the resources of every completion, [resource][label]."""
        return np.asarray(labels.sums + self.resources.ahead(labels.stage, labels.states))

    def _follow(self, labels: Labels) -> None:
        """Extend labels from their layer to the last one, or put them aside when the sweep stops."""
        while len(labels) and labels.stage < len(self.layout.order):
            if self._stops():
                self._wait(labels)
                return
            try:
                grown = self._grown(labels)
            except _Late:
                self._wait(labels)
                return
            labels = self._undominated(grown)
            self.done += len(labels)
            if self.width is None and self.done >= self.next_suffixes:
                # as many as there were labels, which pays off if as many labels are still to come
                self.suffix_table = None  # frees the memory of earlier ones
                most = min(self.done, MOST_SUFFIXES)
                self.suffix_table = SuffixTable(self.layout, self.resources, most, self.deadline)
                self.next_suffixes *= MORE_SUFFIXES
            suffixes = None if self.suffix_table is None else self.suffix_table.at(labels.stage)
            if suffixes is not None and self._looked_up(labels, suffixes):
                return
            if len(labels) > self._together():
                labels = self._promising(labels)
        if len(labels):
            self._finish(labels)

    def _wait(self, labels: Labels) -> None:
        if len(labels):
            resources, rows = self.resources, self.resources.rows
            room = resources.limits[rows:, None] - self._at_least(labels)[rows:]
            room //= resources.scales[:, None]
            self.waiting.append((labels, resources.most - int(room.min(axis=0).max())))
            self.held += labels.sums.size

    def _together(self) -> int:
        many = TOGETHER if self.suffix_table is None else MANY
        return self.width or max(1, min(many, AT_A_TIME // len(self.resources.limits)))

    def _grown(self, labels: Labels) -> Labels:
        """Extend labels by the next layer's columns, within all limits."""
        layout = self.layout
        begin, end = layout.columns(labels.stage)
        deltas = self.resources.deltas[:, begin:end]
        i, j, states = self._within(labels, deltas, *self._fitting(labels, deltas[self.resources.rows]))
        j = j + begin
        return Labels(
            labels.stage + 1,
            added(self.resources.deltas, labels.sums, j, i),
            labels.goal[i] + layout.goal[j],
            added(layout.words, labels.words, j, i),
            states,
            Step(i.astype(np.int32), j.astype(np.int32), labels.step),
        )

    def _within(self, labels: Labels, deltas: Ints, i: Ints, j: Ints, then: Ints) -> tuple[Ints, Ints, Ints]:
        """Return the pairs (label, column, next state) within the limits of all resources. Raises _Late after the deadline."""
        if self._late():
            raise _Late
        limits = self.resources.limits
        ahead = self.resources.ahead(labels.stage + 1, then)
        for first in range(0, len(limits), A_GROUP):
            part = slice(first, first + A_GROUP)
            after = labels.sums[part].take(i, axis=1) + deltas[part].take(j, axis=1)
            if isinstance(ahead, np.ndarray):
                after += ahead[part]
            fits = (after <= limits[part, None]).all(axis=0)
            i, j, then = i[fits], j[fits], then[fits]
            if isinstance(ahead, np.ndarray):
                ahead = ahead[:, fits]
        return i, j, then

    def _fitting(self, labels: Labels, deltas: Ints) -> tuple[Ints, Ints, Ints]:
        """Return labels, columns and next states of the pairs within the limit of the first priced objective."""
        main, stage = self.resources.rows, labels.stage
        limit = self.resources.limits[main]
        if stage >= self.layout.stages:
            i, j = (labels.sums[main][:, None] + deltas <= limit).nonzero()
            return i, j, np.zeros(len(i), dtype=np.int64)
        then = self.layout.then[stage]
        after = deltas + self.resources.to_end[stage + 1][main][then]
        i, j = (after[labels.states] <= (limit - labels.sums[main])[:, None]).nonzero()
        return i, j, then[labels.states[i], j]

    def _undominated(self, labels: Labels) -> Labels:
        """Drop dominated labels: a better one has the same row sums and state; with one row, the same state and no more use."""
        if self.pause > 0 or len(labels) < 2:
            self.pause -= 1
            return labels
        keep = labels.best(self.resources.rows, labels.stage < self.layout.stages)
        if len(keep) > (1 - WORTH) * len(labels):
            self.pause = PAUSE
        return labels if len(keep) == len(labels) else labels.only(keep)

    def _promising(self, labels: Labels) -> Labels:
        """Return the labels with the lowest bounds; put the others aside, or discard them in a beam search."""
        rows, resources = self.resources.rows, self.resources
        over = (self._at_least(labels)[rows:] - resources.limits[rows:, None]) / resources.scales[:, None]
        order = np.argsort(over.max(axis=0), kind="stable")
        together = self._together()
        if self.width is None:
            self._wait(labels.only(order[together:]))
        return labels.only(order[:together])

    def _finish(self, labels: Labels) -> None:
        """Keep the best of complete labels; ties are broken by the order of the space."""
        label = int(best_of_each(np.zeros((0, len(labels)), np.int64), labels.goal, labels.words)[0])
        value = int(labels.goal[label]) + self.layout.floor
        if value > self.known:  # within every priced objective, but worse than a known answer
            return
        first = value, tuple(labels.words[:, label].tolist())
        if self.first is None or first < self.first:
            self.first, self.known = first, value
            self.best = Outcome(self.layout.chosen(labels.columns(label)), value)
            self.resources = self.resources.at(min(value, self.resources.most))

    def _looked_up(self, labels: Labels, suffixes: Suffixes) -> bool:
        """Look up the completions of labels among the suffixes and keep the best answer. True if all were looked up."""
        for begin in range(0, len(labels), AT_ONCE):
            if self._late():
                return False
            part = self._hopeful(labels.only(np.arange(begin, min(begin + AT_ONCE, len(labels)))))
            rows, limits = self.resources.rows, self.resources.limits
            room, left = limits[:rows, None] - part.sums[:rows], limits[rows] - part.sums[rows]
            room = np.vstack([self.known - self.layout.floor - part.goal, room])
            found = suffixes.index.pairs(room, left, PAIRS * len(part))
            if found is None:
                return False
            self.done += found[2] // PAIRS_A_LABEL
            if len(found[0]):
                self._finish(self._completed(part, suffixes, found[0], found[1]))
        return True

    def _completed(self, labels: Labels, suffixes: Suffixes, label: Ints, suffix: Ints) -> Labels:
        """Return the complete labels of the pairs (label, suffix) with the lowest objective."""
        goal = labels.goal[label] + suffixes.goal[suffix]
        best = goal == goal.min()
        labels, columns = labels.only(label[best]), suffixes.step.columns(suffix[best]).T
        step, own = labels.step, np.arange(len(labels), dtype=np.int32)
        for column in columns.T:
            step = Step(own, column.astype(np.int32), step)
        words = labels.words + self.layout.words[:, columns].sum(axis=2)
        return Labels(len(self.layout.order), labels.sums, goal[best], words, labels.states, step)
