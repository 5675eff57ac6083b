"""Best of given models, each checked against the requirements at suitable batches."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from itertools import pairwise

import numpy as np

from puzzledsl.ir.tables import LayerAssignment
from puzzledsl.search.batches.exact import Found, is_right
from puzzledsl.search.problem.box import Box
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
