"""Meet in the middle: suffixes over the last layers, indexed by resource use, to complete partial models by lookup.

The last layers have the near-tied choices that use up the rest of the budgets, where label setting has the most labels.
"""

from __future__ import annotations

from dataclasses import dataclass
from time import monotonic

import numpy as np
from numpy.typing import NDArray

from puzzledsl.search.label_setting.dominance import added, best_of_each
from puzzledsl.search.label_setting.grid import Grid, grid_of
from puzzledsl.search.label_setting.layout import Layout
from puzzledsl.search.label_setting.resources import Meters
from puzzledsl.search.problem.instance import Ints

TOGETHER = 4096  # models that are looked up at once
AT_A_STAGE = 220_000  # most tails of a stage before dominance
READ = 9  # priced objectives whose limits are checked for tails
Short = NDArray[np.int32]


@dataclass(frozen=True, slots=True, eq=False)
class _Link:
    """First column of each tail, and the number of the rest among the tails of the next stage."""

    column: Short
    tail: Short
    next: _Link | None


@dataclass(frozen=True, slots=True, eq=False)
class Tails:
    """Suffixes over the last layers, indexed by resource use."""

    grid: Grid
    link: _Link

    def columns(self, tails: Ints) -> Ints:
        """Return the columns of some tails, [tail][layer], first layer first."""
        found: list[Ints] = []
        link: _Link | None = self.link
        at = self.grid.order[tails]
        while link is not None:
            found.append(link.column[at].astype(np.int64))
            at, link = link.tail[at].astype(np.int64), link.next
        return np.array(found).T


class Endings:
    """Tails from the last stages on, as many stages as fit into a total of `most` tails."""

    def __init__(self, layout: Layout, meters: Meters, most: int, deadline: float | None) -> None:
        self.meters = meters
        self.plain: dict[int, tuple[Ints, Ints, _Link]] = {}  # not indexed yet: (use, objective, link)
        self.gridded: dict[int, Tails] = {}
        meters = meters.first(READ)
        sums, goal = np.zeros((len(meters.limits), 1), np.int64), np.zeros(1, np.int64)
        places = layout.words[0 if layout.marks is None else layout.marks.words :]
        words = np.zeros((len(places), 1), np.int64)
        link: _Link | None = None
        stage = len(layout.order) if meters.weights.any() else 0
        while stage > layout.stages and not layout.due[stage - 1]:
            if deadline is not None and monotonic() > deadline:
                break
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
        """Return the tails from a stage on; None if they are not listed."""
        if stage not in self.gridded and stage in self.plain:
            use, goal, link = self.plain.pop(stage)
            box = int(self.meters.room[self.meters.rows])
            self.gridded[stage] = Tails(grid_of(use, goal, self.meters.weights, box), link)
        return self.gridded.get(stage)


def _grown(meters: Meters, begin: int, end: int, sums: Ints, most: int) -> tuple[Short, Short] | None:
    """Extend tails by each column of the layer before, within the limits of all meters. Return the pairs (columns, tails).

    None if there are more than `most`.
    """
    main, limits = meters.rows, meters.room
    column, tail = (meters.deltas[main, begin:end, None] + sums[main] <= limits[main]).nonzero()
    for meter in range(len(limits)):
        fits = meters.deltas[meter, begin:end][column] + sums[meter][tail] <= limits[meter]
        column, tail = column[fits], tail[fits]
    if len(column) > most:
        return None
    column += begin
    return column.astype(np.int32), tail.astype(np.int32)
