"""Dominance: of the labels with equal resource use and state, only the best is kept."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from puzzledsl.search.problem.columns import Ints, mixed

MANY = 4000  # number of models up to which one operation for all rows is faster
Indices = NDArray[np.int32] | NDArray[np.int64]


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
    """Return the best model of each group of equal keys [key][model], ascending.

    Best means the least objective, then the first place [word][model]. If different keys have equal hashes, all models are
    returned, which is valid but prunes nothing.
    """
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
