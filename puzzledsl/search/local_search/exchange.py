"""Exchange moves of local search: single columns to swap in, their pairs and fours, and their effects on objective and rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from puzzledsl.search.label_setting.grid import grid_of, pairs_of
from puzzledsl.search.lagrangian.bound import Bound
from puzzledsl.search.problem.columns import Ints, mixed
from puzzledsl.search.problem.instance import Problem

ALIKE = 2  # most changes with equal effects that are kept; two, because both may be made
FIRST = 512  # pairs, of the least slack, that are combined with any other pair


@dataclass(frozen=True, slots=True, eq=False)
class Changes:
    """Columns to swap in, least slack first, with their layers.

    Differences to the answer's own columns: `goals[change]` (objective), `rows[row][change]`, `slack[change]`.
    """

    columns: Ints
    layers: Ints
    goals: Ints
    rows: Ints
    slack: Ints

    def __len__(self) -> int:
        return len(self.columns)


def changes_of(problem: Problem, bound: Bound, chosen: Ints, most: int, number: int) -> Changes:
    """Return the `number` changes with the least slack, among columns that an answer of sum `most` or less may have.

    At most ALIKE of them have equal effects.
    """
    within = bound.within(most)
    within[chosen] = False
    columns = within.nonzero()[0]
    columns = columns[np.argsort(bound.slack[columns].astype(np.float64), kind="stable")]
    layers = problem.columns.layer_of[columns]
    own = chosen[layers]
    goals = problem.goal.values[columns] - problem.goal.values[own]
    rows = problem.matrix[:, columns] - problem.matrix[:, own]
    kept = _few_alike(np.vstack([goals, rows]))[:number]
    slack = bound.slack[columns[kept]] - bound.slack[own[kept]]
    return Changes(columns[kept], layers[kept], goals[kept], rows[:, kept], slack)


def _few_alike(figures: Ints) -> Ints:
    """Return the places of columns of `figures` that are among the first ALIKE with the same values, ascending."""
    kinds = mixed(figures)
    order = np.argsort(kinds, kind="stable")
    repeated = np.zeros(len(order), dtype=np.bool_)
    repeated[ALIKE:] = kinds[order][ALIKE:] == kinds[order][:-ALIKE]
    return np.sort(order[~repeated])


def pairs_that_fit(changes: Changes, room: Ints) -> tuple[Ints, Ints]:
    """Return the pairs of changes that lower the objective and use at most `room[row]`, best first, and their objective changes.

    A single change is a pair with itself.
    """
    together = changes.goals[:, None] + changes.goals[None, :]
    fits = (changes.layers[:, None] < changes.layers[None, :]) & (together < 0)
    for row, left in zip(changes.rows, room, strict=True):
        fits &= row[:, None] + row[None, :] <= left
    alone = np.diag_indices(len(changes))
    fits[alone] = (changes.rows <= room[:, None]).all(axis=0) & (changes.goals < 0)
    together[alone] = changes.goals
    found = np.flatnonzero(fits)
    totals = together.ravel()[found]
    order = np.argsort(totals, kind="stable")
    return np.array(np.divmod(found[order], len(changes))).T, totals[order]


def fours_that_fit(changes: Changes, bound: Bound, room: Ints, spare: int, left: int) -> tuple[Ints, Ints]:
    """Combine each of the FIRST pairs with any other pair. Return fours of changes, best first, and their objective changes.

    Fours raise the objective by at most `spare` and use at most `room[row]`. `left`: room of the priced objective.
    """
    first, second = np.triu_indices(len(changes), 1)
    apart = changes.layers[first] != changes.layers[second]
    pairs = np.array([first[apart], second[apart]])
    if not apart.any():
        return np.zeros((0, 4), dtype=np.int64), np.zeros(0, dtype=np.int64)
    pairs = pairs[:, np.argsort(changes.slack[pairs].sum(axis=0), kind="stable")]
    use, goals = changes.rows[:, pairs].sum(axis=1), changes.goals[pairs].sum(axis=0)
    least, weights = use.min(axis=1), np.array(bound.prices, dtype=np.int64)
    grid = grid_of(use - least[:, None], goals, weights, left)
    rest = (room - least)[:, None] - use[:, :FIRST]
    found = pairs_of(grid, rest, np.full(rest.shape[1], left), weights, spare - goals[:FIRST], len(goals))
    assert found is not None, "no model has more candidates than there are pairs"
    left_pair, right_pair = found[0], grid.order[found[1]]
    fours = np.vstack([pairs[:, left_pair], pairs[:, right_pair]])
    where = changes.layers[fours]
    fits = (where[:2, None] != where[None, 2:]).all(axis=(0, 1))
    totals = (goals[left_pair] + goals[right_pair])[fits]
    order = np.argsort(totals, kind="stable")
    return fours[:, fits][:, order].T, totals[order]
