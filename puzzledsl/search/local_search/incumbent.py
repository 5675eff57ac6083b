"""Lagrangian heuristic: repair the cheapest columns at the bound's prices, then improve by single swaps."""

from __future__ import annotations

from dataclasses import replace
from math import inf
from time import monotonic

import numpy as np

from puzzledsl.search.lagrangian.bound import Bound
from puzzledsl.search.problem.columns import Ints
from puzzledsl.search.problem.instance import Problem


def find_incumbent(problem: Problem, bound: Bound, deadline: float = inf) -> Ints | None:
    """Return columns, one for each layer, that satisfy every row and formula; None if the repair fails or takes too long.

    If scores have runs, the search uses dropped layers' scores outside of runs.
    """
    if problem.columns.period:
        return _without_runs(problem, bound, deadline)
    return _repaired(problem, bound, deadline)


def _without_runs(problem: Problem, bound: Bound, deadline: float) -> Ints | None:
    found = problem.without_runs()
    if found is None:
        return None
    inner, origin = found
    chosen = find_incumbent(
        inner, replace(bound, reduced=bound.reduced[origin], slack=bound.slack[origin]), deadline
    )
    if chosen is None:
        return None
    numbered = problem.columns.numbered(origin[chosen])
    return numbered if (numbered >= 0).all() and problem.is_feasible(numbered) else None


def _repaired(problem: Problem, bound: Bound, deadline: float) -> Ints | None:
    columns, rows = problem.columns, problem.matrix
    reduced = bound.reduced.astype(np.float64)
    layer_of = columns.layer_of
    chosen = _cheapest(problem, reduced)
    use = rows[:, chosen].sum(axis=1) if len(rows) else np.zeros(0, dtype=np.int64)
    scale = np.maximum(np.abs(rows).max(axis=1, initial=1), 1).astype(np.float64)
    for _ in range(4 * columns.layers):
        excess = _excess(use, problem.limits, scale)
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


def _cheapest(problem: Problem, reduced: np.typing.NDArray[np.float64]) -> Ints:
    start = problem.columns.start
    return np.array(
        [
            b + int(np.argmin(reduced[b:e]))
            for b, e in zip(start[:-1].tolist(), start[1:].tolist(), strict=True)
        ],
        dtype=np.int64,
    )


def _excess(use: Ints, limits: Ints, scale: np.typing.NDArray[np.float64]) -> float:
    return float((np.maximum(use - limits, 0) / scale).sum())


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
