"""Heuristics for good answers: repair by prices, and exchanges of columns.

Repair starts from the cheapest columns at the bound's prices. Exchange changes two layers at a time,
so that one makes up for the other's resource use.

If interchangeable layers make a proof hopeless (for example, when parameters are maximised), this closes almost all of the gap:
some pair of a few hundred changes fills a budget almost exactly.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import inf
from time import monotonic

import numpy as np

from puzzledsl.search.lagrangian.bound import Bound
from puzzledsl.search.problem.columns import Ints, mixed
from puzzledsl.search.problem.instance import Problem

CHANGES = 400  # changes with the least slack that are paired
TRIES = 64  # best pairs tried, because formulas may forbid some
ROUNDS = 40
ALIKE = 2  # most changes with equal effects that are kept; two, because both may be made


def find_incumbent(problem: Problem, bound: Bound, deadline: float = inf) -> Ints | None:
    """Return columns, one for each layer, that satisfy every row and formula; None if the repair fails or takes too long."""
    columns, rows = problem.columns, problem.matrix
    reduced = bound.reduced.astype(np.float64)
    layer_of = columns.layer_of
    chosen = (
        np.array([*map(np.argmin, np.split(reduced, columns.start[1:-1]))], dtype=np.int64)
        + columns.start[:-1]
    )
    use = rows[:, chosen].sum(axis=1) if len(rows) else np.zeros(0, dtype=np.int64)
    scale = np.maximum(np.abs(rows).max(axis=1, initial=1), 1).astype(np.float64)
    for _ in range(4 * columns.layers):
        excess = float((np.maximum(use - problem.limits, 0) / scale).sum())
        if excess == 0:
            break
        if monotonic() > deadline:
            return None
        after = use[:, None] - rows[:, chosen][:, layer_of] + rows
        gain = excess - (np.maximum(after - problem.limits[:, None], 0) / scale[:, None]).sum(axis=0)
        price = reduced - reduced[chosen][layer_of]
        with np.errstate(divide="ignore", invalid="ignore"):
            worth = np.where(gain > 1e-12, (price + 1e-9 * (1 + np.abs(price))) / gain, np.inf)
        best = int(np.argmin(worth))
        if not np.isfinite(worth[best]):
            return None
        chosen[layer_of[best]] = best
        use = rows[:, chosen].sum(axis=1)
    if (use > problem.limits).any():
        return None
    _improve(problem, chosen, deadline)
    return chosen if problem.meets_formulas(chosen) else None


def _improve(problem: Problem, chosen: Ints, deadline: float) -> None:
    """Swap single columns, best first, while the objective decreases and every row holds. Changes `chosen` in place."""
    rows, values, layer_of = problem.matrix, problem.goal.values, problem.columns.layer_of
    for _ in range(4 * problem.columns.layers):
        use = rows[:, chosen].sum(axis=1)
        after = use[:, None] - rows[:, chosen][:, layer_of] + rows
        gain = values[chosen][layer_of] - values
        gain = np.where((after <= problem.limits[:, None]).all(axis=0), gain, 0)
        best = int(np.argmax(gain))
        if gain[best] <= 0 or monotonic() > deadline:
            return
        chosen[layer_of[best]] = best


def improvements(problem: Problem, bound: Bound, chosen: Ints) -> Iterator[Ints]:
    """Yield ever better answers, starting from `chosen`, which must satisfy every row and formula. Deterministic."""
    for _ in range(ROUNDS):
        better = _by_pairs(problem, bound, chosen)
        if better is None:
            return
        yield better
        chosen = better


def _by_pairs(problem: Problem, bound: Bound, chosen: Ints) -> Ints | None:
    """Apply the best improving pair of changes (or single one), and others that fit with it; None if none improves."""
    changes = changes_of(problem, bound, chosen, problem.goal.of(chosen) - 1, CHANGES)
    room, better = np.asarray(problem.limits - problem.matrix[:, chosen].sum(axis=1)), None
    pairs, _ = pairs_that_fit(changes, room)
    touched: set[int] = set()
    for pair in pairs[:TRIES]:
        which = np.unique(pair)
        layers, need = set(changes.layers[which].tolist()), changes.rows[:, which].sum(axis=1)
        if touched & layers or (need > room).any():
            continue
        after = (chosen if better is None else better).copy()
        after[changes.layers[which]] = changes.columns[which]
        if problem.meets_formulas(after):
            better, room, touched = after, room - need, touched | layers
    return better


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
