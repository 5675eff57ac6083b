"""Lagrangian heuristic: repair the cheapest columns at the bound's prices, then improve by single swaps."""

from __future__ import annotations

from math import inf
from time import monotonic

import numpy as np

from puzzledsl.search.lagrangian.bound import Bound
from puzzledsl.search.problem.columns import Ints
from puzzledsl.search.problem.instance import Problem


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
