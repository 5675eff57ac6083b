"""Label setting for the resource-constrained shortest path (Irnich & Desaulniers 2005), one layer at a time, as arrays.

A label is a partial assignment that may still become a good answer. It is pruned if a resource exceeds its limit (see
`labels.py`), or if a label with the same use of every row dominates it: one with a lower objective, or with the same one and
first in the order of the space. So the canonical best answer is never pruned. If a layer has too many labels, the most promising
are extended first and the others wait; answers found meanwhile prune some of these. With a `width`, waiting labels are discarded
(beam search), which finds good answers fast and proves nothing. After many labels, suffixes over the last layers are listed and
looked up (see `suffixes.py`).
"""

from __future__ import annotations

from dataclasses import replace
from math import inf
from time import monotonic

import numpy as np

from puzzledsl.search.label_setting.labels import (
    Labels,
    Layout,
    Step,
    WaitingLabels,
    added,
    best_of_each,
    layout_of,
)
from puzzledsl.search.label_setting.suffixes import PAIRS, Suffixes, SuffixTable
from puzzledsl.search.label_setting.suffixes import TOGETHER as AT_ONCE
from puzzledsl.search.lagrangian.bound import Bound
from puzzledsl.search.problem.columns import Ints
from puzzledsl.search.problem.instance import Outcome, Problem

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

    Other modules use label setting only through this function. `known`: sum of a known answer; better ones are kept even above
    `most`. With a `width` (beam search) or after the deadline (monotonic clock) the sweep is incomplete.
    """
    layout = layout_of(problem, bound, most)
    return None if layout is None else Sweep(layout, most, known, width, deadline)


class _Late(Exception):
    """Raised when the deadline has passed."""


class Sweep:
    """A sweep that can be interrupted after a number of labels and continued."""

    def __init__(
        self,
        layout: Layout,
        most: int,
        known: int | None = None,
        width: int | None = None,
        deadline: float = inf,
    ) -> None:
        self.layout, self.resources = layout, layout.resources.at(most)
        self.known = most if known is None else known
        self.width, self.deadline = width, deadline
        self.last: int | None = None  # value of `done` at which it stops
        self.waiting: list[WaitingLabels] = []
        self.best = Outcome()  # of the answers found; it may be above the limit
        self.first: tuple[int, tuple[int, ...]] | None = None  # objective and place of `best`
        self.done = 0
        self.pause = 0
        self.held = 0  # numbers that waiting labels take
        self.suffix_table: SuffixTable | None = None
        self.next_suffixes = FIRST_SUFFIXES  # value of `done` at which suffixes are listed next

        if not layout.hopeless and not (self.resources.room < 0).any():
            none = np.zeros((len(self.resources.limits), 1), np.int64)
            self._wait(Labels(0, none, none[0], layout.first_words[:, None], none[0], None))

    def tighten(self, value: int) -> None:
        """Lower the limit to the sum of an answer found elsewhere."""
        if value < self.known:
            self.known = value
            self.best = Outcome()
            self.resources = self.resources.at(min(value, self.resources.most))

    def run(self, work: int | None = None) -> Outcome:
        """Sweep all layers; stop after `work` more labels. Return the best answer so far, which may be above the limit.

        Proven: an answer within the limit is the canonical best one, and otherwise there is none. If not, `bound` is proven for
        answers within the limit.
        """
        self.last = None if work is None else self.done + work
        while self.waiting:
            if self._stops():
                least = min(group.least for group in self.waiting)
                return replace(self.best, bound=min(least, self.resources.most))
            group = self.waiting.pop()
            self.held -= group.size
            self._follow(self._hopeful(group.labels(self.resources)))
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
                self.suffix_table, most = (
                    None,
                    min(self.done, MOST_SUFFIXES),
                )  # frees the memory of earlier ones
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
            self._hold(labels, int(self.resources.least_goal(self._at_least(labels)).min()))

    def _hold(self, labels: Labels, least: int) -> None:
        self.waiting.append(WaitingLabels.of(labels, self.resources, least))
        self.held += self.waiting[-1].size

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

    def _within(
        self, labels: Labels, deltas: Ints, i: Ints, j: Ints, states: Ints
    ) -> tuple[Ints, Ints, Ints]:
        """Return the pairs (label, column, next state) within the limits of all resources. Raises _Late after the deadline."""
        if self._late():
            raise _Late
        limits = self.resources.limits
        ahead = self.resources.ahead(labels.stage + 1, states)
        for first in range(0, len(limits), A_GROUP):
            part = slice(first, first + A_GROUP)
            after = labels.sums[part].take(i, axis=1) + deltas[part].take(j, axis=1)
            if isinstance(ahead, np.ndarray):
                after += ahead[part]
            fits = (after <= limits[part, None]).all(axis=0)
            i, j, states = i[fits], j[fits], states[fits]
            if isinstance(ahead, np.ndarray):
                ahead = ahead[:, fits]
        return i, j, states

    def _fitting(self, labels: Labels, deltas: Ints) -> tuple[Ints, Ints, Ints]:
        """Return labels, columns and next states of the pairs that keep the main resource within its limit."""
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
        """Dominance: of labels with equal row sums and equal state, keep the best."""
        if self.pause > 0 or len(labels) < 2:
            self.pause -= 1
            return labels
        keys = labels.sums[: self.resources.rows]
        if labels.stage < self.layout.stages:
            keys = np.vstack([keys, labels.states])
        keep = best_of_each(keys, labels.goal, labels.words)
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
            nearest = labels.only(order[together : together + 1])  # by floats, so others may be lower by 1
            least = int(self.resources.least_goal(self._at_least(nearest))[0]) - 1
            self._hold(labels.only(order[together:]), least)
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
