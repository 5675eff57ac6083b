"""Interchangeable layers, counted instead of chosen.

Where layers cost and score alike (a parameter count on an analytic profile, say), every permutation of an
answer is an answer, and a model with a Boolean a column proves nothing. So layers that no formula tells
apart form a class, and the model has one integer a column of the class: how many of its layers take it.
Layers that a formula ties together are one unit, with tuples for columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from puzzledsl.search.instance import Formula, Ints, Problem
from puzzledsl.search.metrics import holds, layers_of
from puzzledsl.search.truths import size_of

MOST_TUPLES = 4096
MOST_PARTS = 100_000  # of formulas that are looked at for one unit
SMALLEST_CLASS = 2


@dataclass(frozen=True, slots=True, eq=False)
class Unit:
    """Layers that formulas tie together, most often one. `tuples[i]` are columns, one a layer, that meet the formulas, in order;
    `figures[i]`: the goal's value, then each row's coefficient."""

    layers: tuple[int, ...]
    tuples: Ints
    figures: Ints


@dataclass(frozen=True, slots=True, eq=False)
class Interchangeable:
    """Units with the same figures. `useful`: the tuples that a best answer may have, each figure once."""

    units: tuple[Unit, ...]
    useful: Ints

    def chosen(self, counts: Sequence[int]) -> Ints:
        """Columns of all layers of the class when `counts[i]` units take the i-th useful tuple: earlier units, earlier tuples."""
        places = np.repeat(self.useful, counts)
        columns = [unit.tuples[place] for unit, place in zip(self.units, places, strict=True)]
        return np.concatenate(columns)


@dataclass(frozen=True, slots=True, eq=False)
class Symmetry:
    """The classes of a problem, and the layers and formulas that are in none."""

    classes: tuple[Interchangeable, ...]
    loose_layers: tuple[int, ...]
    loose_formulas: tuple[Formula, ...]

    def loose_columns(self, problem: Problem) -> Ints:
        """The columns of the loose layers."""
        loose = np.zeros(problem.columns.layers, dtype=np.bool_)
        loose[list(self.loose_layers)] = True
        return loose[problem.columns.layer_of].nonzero()[0].astype(np.int64)


def symmetry_of(problem: Problem) -> Symmetry | None:
    """The interchangeable layers of a problem; None where there are none."""
    if problem.columns.period:
        return None  # the scores of runs tie all layers
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
        tuple(f for f in problem.formulas if not layers_of(f.logic) & inside),
    )


def _tied(problem: Problem) -> list[tuple[tuple[int, ...], list[Formula]]]:
    """Layers that share formulas, directly or through others, with those formulas."""
    group = list(range(problem.columns.layers))
    for formula in problem.formulas:
        joined = {group[layer] for layer in layers_of(formula.logic)}
        if joined:
            group = [min(joined) if g in joined else g for g in group]
    members: dict[int, list[int]] = {}
    for layer, name in enumerate(group):
        members.setdefault(name, []).append(layer)
    formulas: dict[int, list[Formula]] = {}
    for formula in problem.formulas:
        for layer in list(layers_of(formula.logic))[:1]:
            formulas.setdefault(group[layer], []).append(formula)
    return [(tuple(layers), formulas.get(name, [])) for name, layers in members.items()]


def _unit(problem: Problem, layers: tuple[int, ...], formulas: list[Formula]) -> Unit | None:
    """The unit of some layers; None where it has too many tuples, or none."""
    start = problem.columns.start
    spans = [range(int(start[layer]), int(start[layer + 1])) for layer in layers]
    tuples = float(np.prod([float(len(s)) for s in spans]))
    if tuples > MOST_TUPLES or tuples * sum(size_of(f.logic) for f in formulas) > MOST_PARTS:
        return None
    if len(layers) == 1 and not formulas:
        columns = np.array(spans[0], dtype=np.int64)[:, None]
    else:
        meeting = [t for t in product(*spans) if _meets(problem, layers, t, formulas)]
        if not meeting:
            return None
        columns = np.array(meeting, dtype=np.int64)
    goal, rows = problem.goal.values[columns], problem.matrix[:, columns]
    figures = np.vstack([goal.sum(axis=1), rows.sum(axis=2)]).T
    return Unit(layers, columns, np.ascontiguousarray(figures))


def _meets(
    problem: Problem, layers: tuple[int, ...], columns: tuple[int, ...], formulas: list[Formula]
) -> bool:
    if not formulas:
        return True
    choices = {layer: problem.columns.choices[i] for layer, i in zip(layers, columns, strict=True)}
    return all(holds(f.logic, choices) for f in formulas)


def _useful(figures: Ints) -> Ints:
    """Without repeats, and without tuples that another beats in the goal while it needs no more of any row."""
    _, first = np.unique(figures, axis=0, return_index=True)
    kept = np.sort(first)
    distinct = figures[kept]
    beaten = np.zeros(len(kept), dtype=np.bool_)
    for i, row in enumerate(distinct):
        no_worse = (distinct <= row).all(axis=1)
        beaten[i] = bool((no_worse & (distinct[:, 0] < row[0])).any())
    return np.asarray(kept[~beaten], dtype=np.int64)
