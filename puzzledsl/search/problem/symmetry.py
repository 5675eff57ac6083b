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

from puzzledsl.search.problem.automata import layers_of_bits
from puzzledsl.search.problem.columns import Ints
from puzzledsl.search.problem.instance import Problem

MOST_TUPLES = 4096
SMALLEST_CLASS = 2


@dataclass(frozen=True, slots=True, eq=False)
class Unit:
    """Layers linked by formulas, most often a single one.

    `tuples[i]`: columns, one for each layer, that satisfy the formulas, in order. `figures[i]`: objective, then row values.
    """

    layers: tuple[int, ...]
    tuples: Ints
    figures: Ints


@dataclass(frozen=True, slots=True, eq=False)
class Interchangeable:
    """Units with equal figures. `useful`: the tuples that may be in a best answer, each combination of figures once."""

    units: tuple[Unit, ...]
    useful: Ints

    def chosen(self, counts: Sequence[int]) -> Ints:
        """Return the columns of the class if `counts[i]` units take useful tuple i. Earlier units take earlier tuples."""
        places = np.repeat(self.useful, counts)
        columns = [unit.tuples[place] for unit, place in zip(self.units, places, strict=True)]
        return np.concatenate(columns)


@dataclass(frozen=True, slots=True, eq=False)
class Symmetry:
    """Classes of interchangeable units of a problem, and the layers and formulas (numbers of the pool) that are in none."""

    classes: tuple[Interchangeable, ...]
    loose_layers: tuple[int, ...]
    loose_formulas: frozenset[int]

    def loose_columns(self, problem: Problem) -> Ints:
        """Return the columns of the layers that are in no class."""
        loose = np.zeros(problem.columns.layers, dtype=np.bool_)
        loose[list(self.loose_layers)] = True
        return loose[problem.columns.layer_of].nonzero()[0].astype(np.int64)


def symmetry_of(problem: Problem) -> Symmetry | None:
    """Return the interchangeable layers of a problem; None if there are none."""
    if problem.columns.period:
        return None  # scores of runs link neighbouring layers
    groups: dict[tuple[object, ...], list[Unit]] = {}
    for layers, formulas in _tied(problem):
        unit = _unit(problem, layers, formulas)
        if unit is not None:
            signature = (
                unit.figures.tobytes(),
                unit.tuples.shape,
                (unit.tuples - unit.tuples.min(axis=0)).tobytes(),
            )
            groups.setdefault(signature, []).append(unit)
    classes = tuple(
        Interchangeable(tuple(units), _useful(units[0].figures))
        for units in groups.values()
        if len(units) >= SMALLEST_CLASS
    )
    if not classes:
        return None
    inside = {layer for c in classes for unit in c.units for layer in unit.layers}
    return Symmetry(
        classes,
        tuple(layer for layer in range(problem.columns.layers) if layer not in inside),
        frozenset(
            formula
            for formula in problem.normal[1]
            if not inside.intersection(layers_of_bits(problem.normal[0].layers[formula]))
        ),
    )


def _tied(problem: Problem) -> list[tuple[tuple[int, ...], list[int]]]:
    """Return the connected components of layers that share formulas, each with the numbers of its formulas in the pool."""
    pool, formulas = problem.normal
    group = list(range(problem.columns.layers))
    for formula in formulas:
        joined = {group[layer] for layer in layers_of_bits(pool.layers[formula])}
        if joined:
            group = [min(joined) if g in joined else g for g in group]
    members: dict[int, list[int]] = {}
    for layer, name in enumerate(group):
        members.setdefault(name, []).append(layer)
    own: dict[int, list[int]] = {}
    for formula in formulas:
        for layer in layers_of_bits(pool.layers[formula])[:1]:
            own.setdefault(group[layer], []).append(formula)
    return [(tuple(layers), own.get(name, [])) for name, layers in members.items()]


def _unit(problem: Problem, layers: tuple[int, ...], formulas: list[int]) -> Unit | None:
    """Build the unit of linked layers; None if it has too many tuples or none."""
    start = problem.columns.start
    spans = [np.arange(start[layer], start[layer + 1]) for layer in layers]
    if math.prod(map(len, spans)) > MOST_TUPLES:
        return None
    columns = np.stack(np.meshgrid(*spans, indexing="ij"), axis=-1).reshape(-1, len(layers))
    if formulas:
        chosen = np.repeat(start[None, :-1], len(columns), axis=0)
        chosen[:, layers] = columns
        meet = [problem.normal[0].truth(formula, chosen) for formula in formulas]
        columns = columns[np.logical_and.reduce(meet)]
    if not len(columns):
        return None
    goal, rows = problem.goal.values[columns], problem.matrix[:, columns]
    figures = np.vstack([goal.sum(axis=1), rows.sum(axis=2)]).T
    return Unit(layers, columns, np.ascontiguousarray(figures))


def _useful(figures: Ints) -> Ints:
    """Return the tuples without duplicates and without those that are dominated: by a better objective with no more use."""
    _, first = np.unique(figures, axis=0, return_index=True)
    kept = np.sort(first)
    distinct = figures[kept]
    beaten = np.zeros(len(kept), dtype=np.bool_)
    for i, row in enumerate(distinct):
        no_worse = (distinct <= row).all(axis=1)
        beaten[i] = bool((no_worse & (distinct[:, 0] < row[0])).any())
    return np.asarray(kept[~beaten], dtype=np.int64)
