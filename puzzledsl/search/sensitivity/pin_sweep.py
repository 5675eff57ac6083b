"""Label setting for many pinned problems at once (Irnich & Desaulniers 2005), bounded by Lagrangian slack.

A label is a choice for a pin's first layers, with the room it leaves in the priced objective, the objective and each row. The
labels of all pins share arrays. Each pin has its own prices, columns (those with small slack) and order of layers, clearest
choices first. If there are too many labels, the most promising are extended first and the others wait; answers found meanwhile
prune some of these. All numbers are exact integers.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from puzzledsl.search.label_setting.dominance import best_of_each
from puzzledsl.search.label_setting.grid import pairs_of
from puzzledsl.search.problem.columns import Ints, Mask
from puzzledsl.search.problem.instance import Problem
from puzzledsl.search.sensitivity.pin_layout import GOAL, GUARDS, ROWS, PinLayout, pin_layout
from puzzledsl.search.sensitivity.pin_prices import EXCLUDED, PinBounds
from puzzledsl.search.sensitivity.pins import Pin

AT_ONCE = 16_000  # labels extended together
A_CHECK = 2000  # answers whose formulas are evaluated at once
TRIES = 15  # pairs of a label and an suffix that take as long as one label
CHECK = 10  # work of evaluating the formulas of one answer, in labels
ANY = 2**31  # no limit on candidate suffixes per label
WORTH = 0.05  # share of dominated labels below which dominance checks pause, each time for longer
LONGEST_REST = 16
FEW = 500  # number of labels below which dominance is not checked


@dataclass(slots=True, eq=False)
class Swept:
    """Result by pin: the best answer found, `chosen[pin]` of sum `value[pin]`, if `found[pin]`.

    `complete[pin]`: no better answer exists within the limit.
    """

    chosen: Ints
    value: Ints
    found: Mask
    complete: Mask


def sweep_pins(
    problem: Problem,
    pins: Sequence[Pin],
    bounds: PinBounds,
    most: Ints,
    work: int,
    deadline: float,
    width: int | None = None,
) -> Swept:
    """Find the best answer of each pin with a sum up to `most[pin]`. A pin is given up after about `work` labels.

    With a `width`, it is a beam search with so many labels per stage, which finds good answers and rarely proves anything.
    """
    layout = pin_layout(problem, pins, bounds, most)
    return _Sweep(problem, layout, bounds, most, work, deadline, width).run()


@dataclass(slots=True, eq=False)
class _Step:
    """Last step of each label: the entry chosen, and the number (`parent`) of the label of `previous` that it extends."""

    entry: Ints
    parent: Ints
    previous: _Step | None

    def only(self, some: Ints) -> _Step:
        return _Step(self.entry[some], self.parent[some], self.previous)


@dataclass(slots=True, eq=False)
class _Labels:
    """Labels at one stage with their pins. `room[resource][label]` and `packed[word][label]`: room left in each resource."""

    stage: int
    pin: Ints
    room: Ints
    packed: Ints
    step: _Step | None

    def __len__(self) -> int:
        return len(self.pin)

    def only(self, some: Ints) -> _Labels:
        step = None if self.step is None else self.step.only(some)
        return _Labels(self.stage, self.pin[some], self.room[:, some], self.packed[:, some], step)

    def entries(self, some: Ints) -> list[Ints]:
        """Return the entries that some labels have chosen, the last stage's first."""
        found, step = [], self.step
        while step is not None:
            found.append(step.entry[some])
            some, step = step.parent[some], step.previous
        return found


@dataclass(slots=True, eq=False)
class _Sweep:
    problem: Problem
    layout: PinLayout
    bounds: PinBounds
    most: Ints
    work: int
    deadline: float
    width: int | None
    need: Ints = field(
        init=False
    )  # room of the priced objective, by pin, that a label must keep to beat the best known answer
    done: Ints = field(init=False)  # number of labels, by pin
    result: Swept = field(init=False)
    rest: int = 0  # stages until dominance is checked again
    rests: int = 1

    def run(self) -> Swept:
        count = len(self.most)
        self.need, self.done = np.zeros(count, np.int64), np.zeros(count, np.int64)
        none = np.zeros(count, np.bool_)
        self.result = Swept(self.layout.base.copy(), self.most.copy(), none.copy(), ~none)
        pins = np.flatnonzero((self.layout.room >= 0).all(axis=0))
        packed = self.layout.packed_room[:, pins]
        waiting = [_Labels(0, pins, self.layout.room[:, pins], packed, None)]
        while waiting:
            if time.monotonic() > self.deadline:
                for labels in waiting:
                    self.result.complete[labels.pin] = False
                break
            self._follow(waiting.pop(), waiting)
        return self.result

    def _follow(self, labels: _Labels, waiting: list[_Labels]) -> None:
        """Extend labels from their stage to the last one; if they are too many at once, some are added to `waiting`."""
        labels = self._still_good(labels)
        while len(labels):
            ended = self.layout.stages[labels.pin] == labels.stage
            if ended.any():
                self._end(labels.only(ended.nonzero()[0]))
                labels = labels.only((~ended).nonzero()[0])
                continue
            at_once = self.width or AT_ONCE
            if len(labels) > at_once:
                share = labels.room[0] / np.maximum(self.layout.room[0], 1)[labels.pin]
                order = np.argpartition(-share, at_once)
                if self.width is None:
                    waiting.append(labels.only(order[at_once:]))
                else:
                    self.result.complete[labels.pin[order[at_once:]]] = False
                labels = labels.only(order[:at_once])
            labels = self._patient(self._merged(self._grown(labels)))

    def _still_good(self, labels: _Labels) -> _Labels:
        good = labels.room[0] >= self.need[labels.pin]
        return labels if good.all() else labels.only(good.nonzero()[0])

    def _patient(self, labels: _Labels) -> _Labels:
        """Return the labels without those of pins that have used up their work; these pins are given up."""
        self.done += np.bincount(labels.pin, minlength=len(self.done))
        given_up = self.done > self.work
        if not given_up.any():
            return labels
        self.need[given_up] = EXCLUDED
        self.result.complete[given_up] = False  # `need` drops their waiting labels too
        return labels.only((~given_up[labels.pin]).nonzero()[0])

    def _merged(self, labels: _Labels) -> _Labels:
        """Dominance: of a pin's labels with equal room in every row, keep the best. No effect with formulas, which may differ."""
        if self.problem.formulas or len(labels) < FEW:
            return labels
        if self.rest:
            self.rest -= 1
            return labels
        keys, places = np.vstack([labels.pin, labels.room[ROWS:]]), np.zeros((0, len(labels)), np.int64)
        keep = best_of_each(keys, -labels.room[GOAL], places)
        if len(keep) > (1 - WORTH) * len(labels):
            self.rests = min(2 * self.rests, LONGEST_REST)
            self.rest = self.rests
        else:
            self.rests = 1
        return labels if len(keep) == len(labels) else labels.only(keep)

    def _grown(self, labels: _Labels) -> _Labels:
        """Extend each label by each column of its pin's next layer that leaves no room negative.

        Columns are tried by rank of slack: first the best column for all labels, then the second for those with room, and so on.
        """
        layout = self.layout
        group = layout.first[labels.pin] + labels.stage
        entry, size, need = layout.begin[group], layout.size[group], self.need[labels.pin]
        some, place = np.arange(len(labels)), 0
        parents, entries = [], []
        while len(some):
            fits = (labels.room[0, some] - layout.deltas[0, entry] >= need[some]).nonzero()[0]
            some, entry = some[fits], entry[fits]
            parents.append(some)
            entries.append(entry)
            place += 1
            more = (size[some] > place).nonzero()[0]
            some, entry = some[more], entry[more] + 1
        parent, entry = np.concatenate(parents), np.concatenate(entries)
        packed: list[Ints] = []
        for own, delta in zip(labels.packed, layout.packed, strict=True):
            word = own[parent] - delta[entry]
            good = (word & GUARDS == GUARDS).nonzero()[0]
            parent, entry = parent[good], entry[good]
            packed = [*(earlier[good] for earlier in packed), word[good]]
        room = np.empty((len(layout.deltas), len(parent)), dtype=np.int64)
        good = np.ones(len(parent), dtype=np.bool_)
        for resource, (own, delta) in enumerate(zip(labels.room, layout.deltas, strict=True)):
            np.subtract(own[parent], delta[entry], out=room[resource])
            good &= room[resource] >= 0
        step = _Step(entry, parent, labels.step)
        words = np.array(packed, dtype=np.int64).reshape(len(packed), len(parent))
        grown = _Labels(labels.stage + 1, labels.pin[parent], room, words, step)
        return grown if good.all() else grown.only(good.nonzero()[0])

    # -------------------------------------------------------- answers

    def _end(self, labels: _Labels) -> None:
        """Keep each pin's best answer among labels that have passed all stages, completed by suffixes if there are any."""
        spare = (
            labels.room[GOAL] - np.where(self.result.found, self.most - self.result.value + 1, 0)[labels.pin]
        )
        if self.layout.suffixes is None:
            some = (spare >= 0).nonzero()[0]
            self._keep_best(labels, some, spare[some], None)
            return
        suffixes, floor = self.layout.suffixes, self.layout.suffix_floor[:, labels.pin]
        room = labels.room[ROWS:] + floor[ROWS:] - suffixes.least[:, None]
        spare = spare + floor[GOAL]
        grid = suffixes.grid_for(self.bounds, labels.room[0])
        weights = np.maximum(self.bounds.whole[labels.pin].T, 1)
        found = pairs_of(grid, room, labels.room[0], weights, spare, ANY)
        assert found is not None
        model, part, tried = found
        self.done += np.bincount(labels.pin, minlength=len(self.done)) * (tried // len(labels) // TRIES)
        self._keep_best(labels, model, spare[model] - grid.goal[part], grid.order[part])

    def _keep_best(self, labels: _Labels, some: Ints, spare: Ints, suffix: Ints | None) -> None:
        """Keep the best answer of each pin, among labels with suffixes, that satisfies the formulas.

        `spare`: amount by which the sum is below the highest acceptable one.
        """
        result, pin = self.result, labels.pin[some]
        top = np.where(result.found, result.value - 1, self.most)
        order = np.lexsort((-spare, pin))
        while len(order):
            pins = pin[order]
            first = np.concatenate([[True], pins[1:] != pins[:-1]])
            if self.problem.formulas:
                first |= np.arange(len(order)) < A_CHECK
            now = order[first]
            if self.problem.formulas:
                self.done += CHECK * np.bincount(pin[now], minlength=len(self.done))
            chosen = self._chosen(labels, some[now])
            if suffix is not None:
                assert self.layout.suffixes is not None
                chosen[:, self.layout.suffixes.layers] = self.layout.suffixes.columns[:, suffix[now]].T
            good = self.problem.meeting_formulas(chosen).nonzero()[0][
                ::-1
            ]  # reversed: each pin's best answer is written last
            here = pin[now[good]]
            result.chosen[here] = chosen[good]
            result.value[here] = top[here] - spare[now[good]]
            result.found[here] = True
            settled = np.zeros(len(self.most), dtype=np.bool_)
            settled[here] = True
            order = order[~first & ~settled[pins]]
        known = result.found.nonzero()[0]
        better = self.bounds.scale[known] * (self.most[known] - result.value[known] + 1)
        self.need[known] = np.maximum(self.need[known], better)

    def _chosen(self, labels: _Labels, some: Ints) -> Ints:
        """Return the columns of labels that have passed all stages, [label][layer]."""
        chosen = self.layout.base[labels.pin[some]]
        rows = np.arange(len(some))
        for entry in labels.entries(some):
            column = self.layout.columns[entry]
            chosen[rows, self.problem.columns.layer_of[column]] = column
        return chosen
