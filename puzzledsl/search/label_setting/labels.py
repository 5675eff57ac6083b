"""Labels of a sweep (partial assignments) as arrays, a compact form for those that wait, and dominance among labels."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from puzzledsl.search.label_setting.resources import Resources
from puzzledsl.search.problem.columns import Ints, Mask, mixed

MANY = 4000  # number of models up to which one operation for all rows is faster
Short = NDArray[np.int32]
Indices = NDArray[np.int32] | NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """Last step of each label or suffix: number of the one that it extends (`before`), and the column chosen."""

    before: Short
    column: Short
    last: Step | None

    def columns(self, labels: Indices) -> Ints:
        """Return the columns of some labels, [step][label], last step first."""
        found: list[Ints] = []
        step: Step | None = self
        while step is not None:
            found.append(step.column[labels].astype(np.int64))
            labels, step = step.before[labels], step.last
        return np.array(found)


@dataclass(frozen=True, slots=True, eq=False)
class Labels:
    """Labels over the first `stage` layers of a layout's order.

    `sums[resource][label]`; `goal[label]`: objective; `words[word][label]`: place in the order of the space;
    `states[label]`: state of the decision diagram, 0 after its last stage; `step`: how to read back the columns.
    """

    stage: int
    sums: Ints
    goal: Ints
    words: Ints
    states: Ints
    step: Step | None

    def __len__(self) -> int:
        return len(self.goal)

    def only(self, keep: Ints | Mask) -> Labels:
        """Return a subset of the labels, in the order of `keep`."""
        step = self.step and Step(self.step.before[keep], self.step.column[keep], self.step.last)
        states = self.states[keep]
        return Labels(self.stage, self.sums[:, keep], self.goal[keep], self.words[:, keep], states, step)

    def columns(self, label: int) -> list[int]:
        """Return the columns of one label, first layer of the order first."""
        return [] if self.step is None else self.step.columns(np.array([label]))[::-1, 0].tolist()


@dataclass(frozen=True, slots=True, eq=False)
class WaitingLabels:
    """Waiting labels: `rows` without the priced sums, of which `priced` has the first; `least`: bound on completions."""

    rows: Labels
    priced: Ints
    least: int

    @classmethod
    def of(cls, labels: Labels, resources: Resources, least: int) -> WaitingLabels:
        """Compact at least one label."""
        rows = replace(labels, sums=labels.sums[: resources.rows].copy())
        return cls(rows, labels.sums[resources.rows :, :1].copy(), least)

    @property
    def size(self) -> int:
        """Numbers that the labels take."""
        return self.rows.sums.size + self.rows.words.size + 3 * len(self.rows)

    def labels(self, resources: Resources) -> Labels:
        """Return the labels with the sums of all resources restored."""
        sums, goal = self.rows.sums, self.rows.goal
        priced = resources.scales[:, None] * (goal - goal[0])
        priced += resources.prices @ (sums - sums[:, :1]) + self.priced
        return replace(self.rows, sums=np.vstack([sums, priced]))


def added(values: Ints, sums: Ints, column: Indices, model: Indices) -> Ints:
    """Return `values[:, column] + sums[:, model]`, row by row to save memory if there are many."""
    if len(column) < MANY:
        return np.asarray(sums.take(model, axis=1) + values.take(column, axis=1))
    after = np.empty((len(sums), len(column)), dtype=np.int64)
    for line, own, before in zip(after, values, sums, strict=True):
        np.take(before, model, out=line, mode="clip")
        line += own[column]
    return after


def best_of_each(keys: Ints, goal: Ints, places: Ints) -> Ints:
    """Return the best of each group of equal keys [key][model], by objective, then place; all if hashes collide."""
    numbers = mixed(keys)
    order = np.argsort(numbers, kind="stable")
    new = np.concatenate([[True], numbers[order][1:] != numbers[order][:-1]])
    group, starts = np.cumsum(new) - 1, new.nonzero()[0]
    if len(starts) == len(order):
        return np.arange(len(goal))
    for key in keys:
        ordered = key[order]
        if (ordered[1:] != ordered[:-1])[~new[1:]].any():  # hash collision
            return np.arange(len(goal))
    goals = goal[order]
    best = goals == np.minimum.reduceat(goals, starts)[group]
    if int(best.sum()) > len(starts):
        tied = best.nonzero()[0]
        ranked = tied[np.lexsort((*places[::-1, order[tied]], group[tied]))]
        first = np.concatenate([[True], group[ranked][1:] != group[ranked][:-1]])
        return np.sort(order[ranked[first]])
    return np.sort(order[best])
