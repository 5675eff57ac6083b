"""Meet in the middle: suffixes over the last layers, indexed by resource use, to complete partial models by lookup.

The last layers have the near-tied choices that use up the rest of the budgets, where label setting has the most labels.
"""

from __future__ import annotations

from dataclasses import dataclass
from time import monotonic

import numpy as np
from numpy.typing import NDArray

from puzzledsl.search.label_setting.grid import Grid, grid_of
from puzzledsl.search.label_setting.labels import added, best_of_each
from puzzledsl.search.label_setting.layout import Layout
from puzzledsl.search.label_setting.resources import Resources
from puzzledsl.search.problem.columns import Ints

TOGETHER = 4096  # models that are looked up at once
AT_A_STAGE = 220_000  # most suffixes of a stage before dominance
Short = NDArray[np.int32]


@dataclass(frozen=True, slots=True, eq=False)
class _Link:
    """First column of each suffix, and the number of the rest among the suffixes of the next stage."""

    column: Short
    suffix: Short
    next: _Link | None


@dataclass(frozen=True, slots=True, eq=False)
class Suffixes:
    """Suffixes over the last layers, indexed by resource use."""

    grid: Grid
    link: _Link

    def columns(self, suffixes: Ints) -> Ints:
        """Return the columns of some suffixes, [suffix][layer], first layer first."""
        found: list[Ints] = []
        link: _Link | None = self.link
        at = self.grid.order[suffixes]
        while link is not None:
            found.append(link.column[at].astype(np.int64))
            at, link = link.suffix[at].astype(np.int64), link.next
        return np.array(found).T


class SuffixTable:
    """Suffixes from the last stages on, as many stages as fit into a total of `most` suffixes."""

    def __init__(self, layout: Layout, resources: Resources, most: int, deadline: float | None) -> None:
        self.resources = resources
        self.plain: dict[int, tuple[Ints, Ints, _Link]] = {}  # not indexed yet: (use, objective, link)
        self.gridded: dict[int, Suffixes] = {}
        sums, goal = np.zeros((len(resources.limits), 1), np.int64), np.zeros(1, np.int64)
        places = layout.words
        words = np.zeros((len(places), 1), np.int64)
        link: _Link | None = None
        stage = len(layout.order) if resources.weights.any() else 0
        while stage > layout.stages:
            if deadline is not None and monotonic() > deadline:
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
            sums, link = added(resources.deltas, sums, column, suffix), _Link(column, suffix, link)
            self.plain[stage] = sums[: resources.rows].copy(), goal, link

    def at(self, stage: int) -> Suffixes | None:
        """Return the suffixes from a stage on; None if they are not listed."""
        if stage not in self.gridded and stage in self.plain:
            use, goal, link = self.plain.pop(stage)
            box = int(self.resources.room[self.resources.rows])
            self.gridded[stage] = Suffixes(grid_of(use, goal, self.resources.weights, box), link)
        return self.gridded.get(stage)


def _grown(resources: Resources, begin: int, end: int, sums: Ints, most: int) -> tuple[Short, Short] | None:
    """Extend suffixes by each column of the layer before, within the limits of all resources.

    Return the pairs (columns, suffixes). None if there are more than `most`.
    """
    main, limits = resources.rows, resources.room
    column, suffix = (resources.deltas[main, begin:end, None] + sums[main] <= limits[main]).nonzero()
    for resource in range(len(limits)):
        fits = resources.deltas[resource, begin:end][column] + sums[resource][suffix] <= limits[resource]
        column, suffix = column[fits], suffix[fits]
    if len(column) > most:
        return None
    column += begin
    return column.astype(np.int32), suffix.astype(np.int32)
