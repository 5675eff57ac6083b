"""Labels of a sweep (partial assignments) as arrays, and a compact form for those that wait."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from puzzledsl.search.label_setting.resources import Resources
from puzzledsl.search.problem.columns import Ints, Mask

Short = NDArray[np.int32]


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """Last step of each label: number of the label that it extends (`before`), and the column chosen."""

    before: Short
    column: Short
    last: Step | None


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

    def all_columns(self) -> Ints:
        """Return the columns of every label, [label][layer], first layer of the order first."""
        found: list[Ints] = []
        step, labels = self.step, np.arange(len(self), dtype=np.int32)
        while step is not None:
            found.append(step.column[labels].astype(np.int64))
            labels, step = step.before[labels], step.last
        return np.array(found[::-1], dtype=np.int64).reshape(len(found), len(self)).T

    def columns(self, label: int) -> list[int]:
        """Return the columns of one label, first layer of the order first."""
        found, step = [], self.step
        while step is not None:
            found.append(int(step.column[label]))
            label, step = int(step.before[label]), step.last
        return found[::-1]


@dataclass(frozen=True, slots=True, eq=False)
class WaitingLabels:
    """Waiting labels in compact form. Priced objectives are kept for the first label only; those of the others follow.

    `least`: lower bound on the objective of all their completions.
    """

    stage: int
    rows: Ints
    priced: Ints
    goal: Ints
    words: Ints
    states: Ints
    step: Step | None
    least: int

    @classmethod
    def of(cls, labels: Labels, resources: Resources, least: int) -> WaitingLabels:
        """Compact at least one label."""
        rows, priced = labels.sums[: resources.rows].copy(), labels.sums[resources.rows :, :1].copy()
        return cls(labels.stage, rows, priced, labels.goal, labels.words, labels.states, labels.step, least)

    @property
    def size(self) -> int:
        """Numbers that the labels take."""
        return self.rows.size + self.words.size + 3 * self.goal.size

    def labels(self, resources: Resources) -> Labels:
        """Return the labels with the sums of all resources restored."""
        priced = resources.scales[:, None] * (self.goal - self.goal[0])
        priced += resources.prices @ (self.rows - self.rows[:, :1]) + self.priced
        sums = np.vstack([self.rows, priced])
        return Labels(self.stage, sums, self.goal, self.words, self.states, self.step)
