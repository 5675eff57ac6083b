"""Budget-constrained greedy (Puzzle, appendix): easiest layers first, each within an even share of the remaining budget.

The paper has one budget. Here every row is a budget, and a block must be within its share of each.
"""

from __future__ import annotations

import numpy as np

from puzzledsl.ir.tables import LayerAssignment
from puzzledsl.search.problem.columns import Ints
from puzzledsl.search.problem.formulas import holds, layers_of
from puzzledsl.search.problem.instance import Problem


def greedy(problem: Problem) -> Ints | None:
    """Return the chosen columns, one for each layer; None if they violate a requirement.

    A layer's difficulty is the mean score of its blocks. If no block is within its share of every budget, the one with the least
    excess is taken; later layers may need less than their share.
    """
    chosen = _chosen(problem)
    return chosen if chosen is not None and problem.is_feasible(chosen) else None


def _chosen(problem: Problem) -> Ints | None:
    """Return a column for each layer; None if the formulas leave some layer without one.

    Dropped layers are scored one by one, not as runs.
    """
    if problem.columns.period:
        found = problem.without_runs()
        plain = None if found is None else _chosen(found[0])
        if found is None or plain is None:
            return None
        numbered = problem.columns.numbered(found[1][plain])
        return numbered if (numbered >= 0).all() else None
    columns, values, rows = problem.columns, problem.goal.values, problem.matrix
    means = np.add.reduceat(values.astype(np.float64), columns.start[:-1]) / np.diff(columns.start)
    left = problem.limits.astype(np.float64)
    unit = np.maximum(np.abs(rows).max(axis=1, initial=1), 1).astype(np.float64)
    chosen = np.zeros(columns.layers, dtype=np.int64)
    decided: dict[int, LayerAssignment] = {}
    for done, layer in enumerate(np.argsort(means, kind="stable").tolist()):
        begin, end = int(columns.start[layer]), int(columns.start[layer + 1])
        share = left / (columns.layers - done)
        excess = (np.maximum(rows[:, begin:end] - share[:, None], 0) / unit[:, None]).sum(axis=0)
        open_ = [i for i in range(end - begin) if _allowed(problem, decided, layer, begin + i)]
        if not open_:
            return None
        best = min(open_, key=lambda i: (excess[i], values[begin + i], i))
        chosen[layer] = begin + best
        decided[layer] = columns.choices[begin + best]
        left -= rows[:, begin + best]
    return chosen


def _allowed(problem: Problem, decided: dict[int, LayerAssignment], layer: int, column: int) -> bool:
    """True unless the column makes a formula false, given the layers decided so far."""
    here = {**decided, layer: problem.columns.choices[column]}
    return all(holds(f.logic, here) is not False for f in problem.formulas if layer in layers_of(f.logic))
