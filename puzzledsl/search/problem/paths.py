"""Dynamic programming over a decision diagram: cheapest paths, for several values of the columns at once.

    to_end[t][s]  = min over columns c of stage t:  value(c) + to_end[t + 1][next(s, c)]
    through(c)    = min over states s:  from_start[t][s] + to_end[t + 1][next(s, c)]

Shapes: V values, S states of a stage, C classes of a stage. Numbers are int64 below LARGEST, or float64.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from puzzledsl.search.problem.columns import Columns, Ints
from puzzledsl.search.problem.diagram import Diagram
from puzzledsl.search.problem.instance import Problem

NEVER = 2**62  # stands for infinity (no path); finite sums are below half of it
Values = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Paths:
    """Paths of a decision diagram over the columns of a problem."""

    columns: Columns
    diagram: Diagram

    @cached_property
    def ordered(self) -> Ints:
        """Columns of all stages, sorted by stage and class."""
        parts = [np.zeros(0, dtype=np.int64)]
        for here in map(self.columns.span, self.diagram.order):
            parts.append(here.start + np.argsort(self.diagram.classes[here], kind="stable"))
        return np.concatenate(parts)

    @cached_property
    def first(self) -> Ints:
        """First place in `ordered` of each class, with the classes of all stages numbered consecutively."""
        classes, layers = self.diagram.classes[self.ordered], self.columns.layer_of[self.ordered]
        new = np.ones(len(self.ordered), dtype=np.bool_)
        new[1:] = (classes[1:] != classes[:-1]) | (layers[1:] != layers[:-1])
        return new.nonzero()[0]

    @cached_property
    def class_sizes(self) -> Ints:
        """Number of columns of each class, [classes]."""
        return np.diff(np.append(self.first, len(self.ordered)))

    @cached_property
    def spans(self) -> list[slice]:
        """Range of the classes of each stage in the consecutive numbering."""
        ends = np.cumsum([table.shape[1] for table in self.diagram.next]).tolist()
        return [slice(begin, end) for begin, end in zip([0, *ends], ends, strict=False)]

    @cached_property
    def free(self) -> Ints:
        """Layers without a stage."""
        return np.setdiff1d(np.arange(self.columns.layers), np.array(self.diagram.order, dtype=np.int64))

    def least(self, values: Values) -> Values:
        """Return the least value of each class, [V][columns] -> [V][classes]."""
        if not len(self.first):
            return values[:, :0]
        return np.asarray(np.minimum.reduceat(values[:, self.ordered], self.first, axis=1))

    def to_end(self, least: Values) -> list[Values]:
        """Return the least value to the end from each state, [stages][V][S + 1]; at DEAD (-1), it is NEVER."""
        never = _never(least)
        after = np.full((len(least), 2), never, dtype=least.dtype)
        after[:, 0] = 0
        found = [after]
        for table, span in zip(reversed(self.diagram.next), reversed(self.spans), strict=True):
            here = np.full((len(least), len(table) + 1), never, dtype=least.dtype)
            sums = after[:, table]  # DEAD indexes the last entry: NEVER
            sums += least[:, None, span]
            sums.min(axis=2, out=here[:, :-1])
            found.append(here)
            after = here
        return found[::-1]

    def slacks(self, values: Values) -> tuple[Values, Values]:
        """Return the least sum of an answer, [V], and how much more those with each column have, [V][columns]."""
        least = self.least(values)
        to_end, each = self.to_end(least), self.columns.least(values)
        slack = values - np.repeat(each, self.columns.sizes, axis=1)
        staged = to_end[0][:, :1]
        around = np.repeat(self._through(least, to_end), self.class_sizes, axis=1)
        above = values[:, self.ordered] + around - staged
        slack[:, self.ordered] = np.where(around >= NEVER / 2, _never(values), above)
        return staged[:, 0] + each[:, self.free].sum(axis=1), slack

    def _through(self, least: Values, to_end: list[Values]) -> Values:
        """Return the least sum of the other stages through each class, [V][classes]."""
        found, lines = np.empty_like(least), np.arange(len(least))[:, None]
        before = np.zeros((len(least), 1), dtype=least.dtype)
        for stage, (table, span) in enumerate(zip(self.diagram.next, self.spans, strict=True)):
            after = to_end[stage + 1]
            found[:, span] = (before[:, :, None] + after[:, table]).min(axis=1)
            live, states = table >= 0, after.shape[1] - 1
            sums = (before[:, :, None] + least[:, None, span])[:, live]
            before = np.full(len(least) * states, _never(least), dtype=least.dtype)
            np.minimum.at(before, (lines * states + table[live]).ravel(), sums.ravel())
            before = before.reshape(len(least), states)
        return found

    def cheapest(self, values: Values, least: Values, to_end: list[Values]) -> Ints:
        """Return the columns of a cheapest child for each of the V values, [V][layers]; of equals, the first class and column."""
        lines = np.arange(len(values))
        chosen = np.zeros((len(values), self.columns.layers), dtype=np.int64)
        for layer in self.free.tolist():
            here = self.columns.span(layer)
            chosen[:, layer] = here.start + values[:, here].argmin(axis=1)
        if not len(self.first):
            return chosen
        equal = values[:, self.ordered] == np.repeat(least, self.class_sizes, axis=1)
        place = np.where(equal, np.arange(len(self.ordered)), len(self.ordered))
        best = self.ordered[np.minimum.reduceat(place, self.first, axis=1)]  # first cheapest of each class
        state = np.zeros(len(values), dtype=np.int64)
        stages = zip(self.diagram.order, self.diagram.next, self.spans, strict=True)
        for stage, (layer, table, span) in enumerate(stages):
            after = table[state]
            sums = least[:, span] + to_end[stage + 1][lines[:, None], after]
            picked = sums.argmin(axis=1)
            chosen[:, layer] = best[lines, span.start + picked]
            state = after[lines, picked]
        return chosen


def paths_of(problem: Problem) -> Paths | None:
    """Return the paths of a problem's diagram; None if it has no diagram or the diagram has no stages."""
    diagram = problem.diagram
    return None if diagram is None or not diagram.order else Paths(problem.columns, diagram)


def _never(values: Values) -> Any:
    return NEVER if values.dtype == np.int64 else np.inf
