"""Symmetry of interchangeable layers: aggregate them to counts.

If layers have equal costs and scores (for example, when parameters are the objective), every permutation of an answer is an
answer, and CP-SAT proves nothing with a Boolean for each column. So interchangeable layers form a class, and the model has an
integer for each choice: the number of layers of the class that take it. Layers linked by formulas are one unit, whose choices are
tuples of columns.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from puzzledsl.search.problem.columns import Ints
from puzzledsl.search.problem.instance import Problem
from puzzledsl.search.problem.residuals import places_of

MOST_TUPLES = 4096


@dataclass(frozen=True, slots=True, eq=False)
class Alike:
    """Units with equal figures: layers linked by formulas, most often a single one.

    `tuples[unit][i]`: columns, one for each layer, of the unit's choice i. `figures[i]`: its objective, then its row values.
    """

    tuples: Ints
    figures: Ints

    def chosen(self, counts: Sequence[int]) -> Ints:
        """Return the columns of the class if `counts[i]` units take choice i. Earlier units take earlier choices."""
        return self.tuples[np.arange(len(self.tuples)), np.repeat(np.arange(len(counts)), counts)].ravel()


def symmetry_of(problem: Problem) -> tuple[Alike, ...]:
    """Return the classes of interchangeable layers of a problem, with the choices that may be in a best answer."""
    if problem.columns.period:
        return ()  # scores of runs link neighbouring layers
    classes: dict[tuple[object, ...], tuple[Ints, list[Ints]]] = {}
    for layers, formulas in _linked(problem):
        tuples = _tuples(problem, layers, formulas)
        if len(tuples):
            goal, rows = problem.goal.values[tuples], problem.matrix[:, tuples]
            figures = np.vstack([goal.sum(axis=1), rows.sum(axis=2)]).T
            own = figures.tobytes(), tuples.shape, (tuples - tuples.min(axis=0)).tobytes()
            classes.setdefault(own, (figures, []))[1].append(tuples)
    return tuple(
        Alike(np.stack(units)[:, useful], figures[useful])
        for figures, units in classes.values()
        if len(units) > 1 and len(useful := _useful(figures))
    )


def _linked(problem: Problem) -> list[tuple[list[int], list[int]]]:
    """Return the connected components of layers that share formulas, each with the numbers of its formulas in the pool."""
    pool, group = problem.normal, list(range(problem.columns.layers))
    linked = [(formula, places_of(pool.layers[formula])) for formula in pool.formulas]
    for _, layers in linked:
        joined = {group[layer] for layer in layers}
        group = [min(joined) if own in joined else own for own in group]
    found: dict[int, tuple[list[int], list[int]]] = {own: ([], []) for own in group}
    for layer, own in enumerate(group):
        found[own][0].append(layer)
    for formula, layers in linked:
        if layers:
            found[group[layers[0]]][1].append(formula)
    return [*found.values()]


def _tuples(problem: Problem, layers: list[int], formulas: list[int]) -> Ints:
    """Return the columns of linked layers that satisfy the formulas, [choice][layer], in order; none if they are too many."""
    start = problem.columns.start
    spans = [np.arange(start[layer], start[layer + 1]) for layer in layers]
    if math.prod(map(len, spans)) > MOST_TUPLES:
        return np.zeros((0, len(layers)), dtype=np.int64)
    tuples = np.stack(np.meshgrid(*spans, indexing="ij"), axis=-1).reshape(-1, len(layers))
    if formulas:
        chosen = np.repeat(start[None, :-1], len(tuples), axis=0)
        chosen[:, layers] = tuples
        tuples = tuples[np.logical_and.reduce([problem.normal.truth(f, chosen) for f in formulas])]
    return tuples


def _useful(figures: Ints) -> Ints:
    """Return the choices without duplicates and without those that are dominated: by a better objective with no more use."""
    kept = np.sort(np.unique(figures, axis=0, return_index=True)[1])
    distinct = figures[kept]
    beaten = [((distinct <= row).all(axis=1) & (distinct[:, 0] < row[0])).any() for row in distinct]
    return np.asarray(kept[~np.array(beaten, dtype=np.bool_)], dtype=np.int64)
