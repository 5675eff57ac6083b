"""A better answer near a known one: two layers changed at a time, so that what one needs more the other makes up for.

Where alike layers make a proof hopeless (the most parameters that fit, say), this closes almost all of the gap: two of some
hundred changes together can fill a budget almost exactly.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from puzzledsl.search.bound import Bound
from puzzledsl.search.incumbent import meets_formulas
from puzzledsl.search.instance import Ints, Problem

CHANGES = 700  # that are tried with each other: those that the prices like best
ALIKE = 2  # changes with the same figures that are kept: both may be made
TRIES = 8  # of the best pairs, where formulas may forbid them
ROUNDS = 40


def polish(problem: Problem, bound: Bound, chosen: Ints) -> Ints:
    """An answer at least as good, where the given one meets every row and formula. Deterministic."""
    for better in polished(problem, bound, chosen):
        chosen = better
    return chosen


def polished(problem: Problem, bound: Bound, chosen: Ints) -> Iterator[Ints]:
    """Answers, each better than the one before, the first better than the given one."""
    for _ in range(ROUNDS):
        better = _best_pair(problem, bound, chosen)
        if better is None:
            return
        yield better
        chosen = better


def _best_pair(problem: Problem, bound: Bound, chosen: Ints) -> Ints | None:
    """The answer with the two changes (or one) that lower the goal most; None where none does."""
    layer_of = problem.columns.layer_of
    changes = _changes(problem, bound, chosen)
    own = chosen[layer_of[changes]]
    goals = problem.goal.values[changes] - problem.goal.values[own]
    rows = problem.matrix[:, changes] - problem.matrix[:, own]
    room = problem.limits - problem.matrix[:, chosen].sum(axis=1)
    together = goals[:, None] + goals[None, :]
    fits = (layer_of[changes][:, None] < layer_of[changes][None, :]) & (together < 0)
    for row, left in zip(rows, room, strict=True):
        fits &= row[:, None] + row[None, :] <= left
    alone = (rows <= room[:, None]).all(axis=0) & (goals < 0)
    fits[np.diag_indices(len(fits))] = alone
    together[np.diag_indices(len(fits))] = goals
    found = np.flatnonzero(fits)
    for place in found[np.argsort(together.ravel()[found], kind="stable")[:TRIES]].tolist():
        after = chosen.copy()
        for change in changes[list(divmod(place, len(changes)))].tolist():
            after[layer_of[change]] = change
        if meets_formulas(problem, after):
            return after
    return None


def _changes(problem: Problem, bound: Bound, chosen: Ints) -> Ints:
    """Columns to change to: of each figures at most `ALIKE`, and of those the cheapest at the bound's prices."""
    own = chosen[problem.columns.layer_of]
    figures = np.vstack([problem.goal.values, problem.matrix])
    deltas = figures - figures[:, own]
    others = (own != np.arange(len(own))).nonzero()[0]
    _, kind = np.unique(deltas[:, others], axis=1, return_inverse=True)
    order = np.argsort(kind.reshape(-1), kind="stable")
    sorted_kinds = kind.reshape(-1)[order]
    repeated = np.zeros(len(order), dtype=np.bool_)
    repeated[ALIKE:] = sorted_kinds[ALIKE:] == sorted_kinds[:-ALIKE]
    kept = np.sort(others[order[~repeated]])
    slack = bound.slack[kept].astype(np.float64)
    return np.asarray(kept[np.argsort(slack, kind="stable")[:CHANGES]])
