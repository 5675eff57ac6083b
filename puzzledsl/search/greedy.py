"""Budget-constrained greedy (Puzzle, appendix): easiest layers first, each within an even share of what budget is left.

The paper has one budget; here every row is one, and a block must be within its share of all of them.
"""

from __future__ import annotations

import numpy as np

from puzzledsl.ir.tables import LayerAssignment
from puzzledsl.search.incumbent import feasible
from puzzledsl.search.instance import Ints, Problem
from puzzledsl.search.metrics import holds, layers_of


def greedy(problem: Problem) -> Ints | None:
    """Chosen columns, or None where the greedy's answer does not meet every requirement.

    A layer's difficulty is the mean score of its alternatives. Where no block is within the share of every budget, the one that
    exceeds its shares by the least is taken; budgets may still work out if later layers need less.
    """
    chosen = _chosen(problem)
    return chosen if chosen is not None and feasible(problem, chosen) else None


def _chosen(problem: Problem) -> Ints | None:
    """A column of each layer; None where formulas leave some layer none. Runs of dropped layers are scored one by one."""
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
    """Whether no formula is already false with this column."""
    here = {**decided, layer: problem.columns.choices[column]}
    return all(holds(f.logic, here) is not False for f in problem.formulas if layer in layers_of(f.logic))
