"""Repair: a first answer from the cheapest columns at the bound's prices, one column at a time, for formulas, then for rows."""

from __future__ import annotations

from collections.abc import Iterable
from math import inf
from time import monotonic

import numpy as np

from puzzledsl.search.lagrangian.bound import Bound
from puzzledsl.search.problem.columns import Ints
from puzzledsl.search.problem.instance import Problem
from puzzledsl.search.problem.residuals import places_of

TRIES = 64  # best columns tried, because formulas may forbid some
REPAIR = 50_000  # layers of formulas looked at by a repair: about .2 s
LOCAL = 8  # most layers of a broken formula that one column may mend


def find_incumbent(problem: Problem, bound: Bound, deadline: float = inf) -> Ints | None:
    """Return columns that satisfy every formula, then every row, mended one by one; None if that fails or takes too long."""
    columns, rows = problem.columns, problem.matrix
    reduced = bound.reduced.astype(np.float64)
    layer_of = columns.layer_of
    pool = problem.normal
    parts = [part for formula in (*pool.runs, *pool.formulas) for part in pool.parts(formula)]
    around: list[dict[int, None]] = [
        {} for _ in range(columns.layers)
    ]  # parts that mention each layer, in order
    for part in parts:
        for layer in places_of(pool.layers[part]):
            around[layer][part] = None
    size = [sum(pool.layers[part].bit_count() for part in here) for here in around]
    work = REPAIR - sum(size)
    chosen = (
        np.array([*map(np.argmin, np.split(reduced, columns.start[1:-1]))], dtype=np.int64)
        + columns.start[:-1]
    )
    scale = np.maximum(np.abs(rows).max(axis=1, initial=1), 1).astype(np.float64)
    broken = [part for part in parts if not pool.truth(part, chosen[None, :])[0]]
    while work > 0 and monotonic() <= deadline:
        use = rows[:, chosen].sum(axis=1)
        excess = float((np.maximum(use - problem.limits, 0) / scale).sum())
        if excess == 0 and not broken:
            return chosen
        after = use[:, None] - rows[:, chosen][:, layer_of] + rows
        gain = excess - (np.maximum(after - problem.limits[:, None], 0) / scale[:, None]).sum(axis=0)
        if broken:
            open_to = places_of(pool.layers[broken[0]])
            if len(open_to) > LOCAL:
                return None
            gain[~np.isin(layer_of, open_to)] = 0
            for layer in open_to:
                here = np.arange(columns.start[layer], columns.start[layer + 1])
                before = sum(part in around[layer] for part in broken)
                gain[here] += before - _broken(problem, around[layer], _swapped(chosen, layer_of, here))
                work -= size[layer]
        price = reduced - reduced[chosen][layer_of]
        with np.errstate(divide="ignore", invalid="ignore"):
            worth = np.where(gain > 1e-12, (price + 1e-9 * (1 + np.abs(price))) / gain, np.inf)
        first = np.argsort(worth, kind="stable")[: 1 if broken or not parts else TRIES]
        first = first[np.isfinite(worth[first])]
        if parts and not broken:
            touched = list(dict.fromkeys(part for layer in layer_of[first] for part in around[layer]))
            first = first[_broken(problem, touched, _swapped(chosen, layer_of, first)) == 0]
            work -= sum(pool.layers[part].bit_count() for part in touched)
        if not len(first):
            return None
        layer = int(layer_of[first[0]])
        chosen[layer] = first[0]
        broken = [part for part in broken if part not in around[layer]]
        broken += [part for part in around[layer] if not pool.truth(part, chosen[None, :])[0]]
        work -= size[layer] + 1
    return None


def _broken(problem: Problem, parts: Iterable[int], answers: Ints) -> Ints:
    """Return the number of formulas, of `parts`, that each answer [answer][layer] breaks."""
    broken = np.zeros(len(answers), dtype=np.int64)
    for part in parts:
        broken += ~problem.normal.truth(part, answers)
    return broken


def _swapped(chosen: Ints, layer_of: Ints, columns: Ints) -> Ints:
    """Return one answer for each of `columns`: `chosen` with this column."""
    answers = np.tile(chosen, (len(columns), 1))
    answers[np.arange(len(columns)), layer_of[columns]] = columns
    return answers
