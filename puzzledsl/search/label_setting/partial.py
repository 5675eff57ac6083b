"""Partial models (labels) of a sweep as arrays, and a compact form for those that wait."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from puzzledsl.search.label_setting.resources import Meters
from puzzledsl.search.problem.instance import Ints, Mask

Short = NDArray[np.int32]


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """Last step of each model: number of the model that it extends (`before`), and the column chosen."""

    before: Short
    column: Short
    last: Step | None


@dataclass(frozen=True, slots=True, eq=False)
class Models:
    """Partial models of the first `stage` layers of a layout's order.

    `sums[meter][model]`; `goal[model]`: objective; `words[word][model]`: marks, then places in the order of the space;
    `states[model]`: state of the decision diagram, 0 after its last stage; `step`: how to read back the columns.
    """

    stage: int
    sums: Ints
    goal: Ints
    words: Ints
    states: Ints
    step: Step | None

    def __len__(self) -> int:
        return len(self.goal)

    def only(self, keep: Ints | Mask) -> Models:
        """Return a subset of the models, in the order of `keep`."""
        step = self.step and Step(self.step.before[keep], self.step.column[keep], self.step.last)
        states = self.states[keep]
        return Models(self.stage, self.sums[:, keep], self.goal[keep], self.words[:, keep], states, step)

    def all_columns(self) -> Ints:
        """Return the columns of every model, [model][layer], first layer of the order first."""
        found: list[Ints] = []
        step, models = self.step, np.arange(len(self), dtype=np.int32)
        while step is not None:
            found.append(step.column[models].astype(np.int64))
            models, step = step.before[models], step.last
        return np.array(found[::-1], dtype=np.int64).reshape(len(found), len(self)).T

    def columns(self, model: int) -> list[int]:
        """Return the columns of one model, first layer of the order first."""
        found, step = [], self.step
        while step is not None:
            found.append(int(step.column[model]))
            model, step = int(step.before[model]), step.last
        return found[::-1]


@dataclass(frozen=True, slots=True, eq=False)
class Aside:
    """Waiting models in compact form. Priced objectives are kept for the first model only; those of the others follow.

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
    def of(cls, models: Models, meters: Meters, least: int) -> Aside:
        """Compact at least one model."""
        rows, priced = models.sums[: meters.rows].copy(), models.sums[meters.rows :, :1].copy()
        return cls(models.stage, rows, priced, models.goal, models.words, models.states, models.step, least)

    def models(self, meters: Meters) -> Models:
        """Return the models with the sums of all meters restored."""
        priced = meters.scales[:, None] * (self.goal - self.goal[0])
        priced += meters.prices @ (self.rows - self.rows[:, :1]) + self.priced
        sums = np.vstack([self.rows, priced])
        return Models(self.stage, sums, self.goal, self.words, self.states, self.step)
