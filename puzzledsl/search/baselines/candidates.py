"""Models that heuristics propose, each checked against the requirements at suitable batches; and the paper's greedy one."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from itertools import pairwise

import numpy as np

from puzzledsl.ir.logic import holds, layers_of
from puzzledsl.ir.tables import LayerAssignment
from puzzledsl.search.batches.exact import Found, is_right
from puzzledsl.search.problem.box import Box
from puzzledsl.search.problem.columns import Ints
from puzzledsl.search.problem.instance import Problem
from puzzledsl.search.problem.problem import Builder, Problems

Model = tuple[LayerAssignment, ...]
Models = Iterable[Model]
NO_MODEL = Found(None, {}, None, False)


def best_of_models(problems: Problems, models: Iterable[Models]) -> Found:
    """Return the best feasible answer among a heuristic's models, given for each box; NO_MODEL if none is feasible."""
    best: tuple[Fraction, Found] | None = None
    for box, of_a_box in zip(problems.boxes, models, strict=True):
        for layers in of_a_box:
            found = taken(problems, layers, box)
            if found is not None and (best is None or found[0] < best[0]):
                best = found
    return NO_MODEL if best is None else best[1]


def taken(problems: Problems, layers: Model, near: Box) -> tuple[Fraction, Found] | None:
    """Return (rank of its objective, answer) of a model at batches in `near`; None if it violates a requirement."""
    box = problems.box_of(layers, near)
    if box is None:
        return None
    problem = problems.at(box)
    chosen = problem.indices(layers)
    if chosen is None or not problem.is_feasible(chosen) or not is_right(problems.tables, problem, layers):
        return None
    found = Found(layers, box.lows, None, False, value=problem.goal.exact_value(chosen))
    return problem.goal.rank(problem.goal.of(chosen)), found


def closest(builder: Builder, wanted: LayerAssignment) -> Model:
    """Return the model with one block in every layer.

    A layer that does not offer it takes the choice whose attention and FFN are closest to it in parameters.
    """
    columns, costs = builder.columns, builder.tables.costs
    params = costs.params_attention, costs.params_ffn
    target = [
        next(layer[name] for layer in of_part if name in layer)
        for of_part, name in zip(params, (wanted.attention, wanted.ffn), strict=True)
    ]
    pairs = zip(columns.layer_of.tolist(), columns.choices, strict=True)
    sizes = np.array([(params[0][i][c.attention], params[1][i][c.ffn]) for i, c in pairs], dtype=np.int64)
    other = np.array([(c.attention != wanted.attention) + (c.ffn != wanted.ffn) for c in columns.choices])
    distance = 4 * np.abs(sizes - target).sum(axis=1) + other
    return tuple(
        columns.choices[b + int(np.argmin(distance[b:e]))] for b, e in pairwise(columns.start.tolist())
    )


# ---------------------------------------------------------------- greedy


def greedy(problem: Problem) -> Ints | None:
    """Return the chosen columns, one for each layer; None if they violate a requirement (Puzzle, appendix).

    Easiest layers come first, each within an even share of what is left of every budget. A layer's difficulty is the mean score
    of its blocks. If no block is within its share of every budget, the one with the least excess is taken; later layers may need
    less than their share.
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
