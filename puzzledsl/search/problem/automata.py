"""One formula as a finite automaton over layers, in stage order. A state is the residual formula after a layer's choice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import monotonic

import numpy as np

from puzzledsl.search.problem.columns import Ints
from puzzledsl.search.problem.residuals import FALSE, Residuals

DEAD = -1
A_STEP = 10  # work of one transition, in parts of a formula looked at


@dataclass(frozen=True, slots=True, eq=False)
class Automaton:
    """Automaton of the formula with number `formula` in its pool. The first state is 0.

    `tables[layer][state][class]`: the state after the layer, DEAD if the formula is then false. `first` and `last`: stages of
    the formula's first and last layer.
    """

    formula: int
    tables: Mapping[int, Ints]
    first: int
    last: int


def layers_of_bits(bits: int) -> list[int]:
    """Return the positions of the set bits of a number, ascending."""
    found = []
    while bits:
        lowest = bits & -bits
        found.append(lowest.bit_length() - 1)
        bits ^= lowest
    return found


def automaton_of(
    pool: Residuals,
    formula: int,
    stage_of: Mapping[int, int],
    columns: Mapping[int, Sequence[int]],
    most: int,
    deadline: float,
) -> Automaton | None:
    """Build the automaton of a formula; None if the pool's work exceeds `most`, or will, or the deadline passes.

    `stage_of[layer]`: stage of a layer. `columns[layer]`: one column of each class of the layer.
    """
    layers = sorted(layers_of_bits(pool.layers[formula]), key=stage_of.__getitem__)
    masks: dict[int, set[int]] = {}
    pool.masks(formula, masks)
    states, tables = {formula: 0}, {}
    for passed, layer in enumerate(layers):
        if monotonic() > deadline:
            return None
        before = pool.work
        first_of, own = pool.own_classes(layer, frozenset(masks[layer]), columns[layer])
        after: dict[int, int] = {}
        table = np.full((len(states), len(first_of)), DEAD, dtype=np.int64)
        for state, number in states.items():
            for place, column in enumerate(first_of):
                pool.work += A_STEP
                if pool.work > most:
                    return None
                then = pool.assign(state, layer, column)
                if then != FALSE:
                    table[number, place] = after.setdefault(then, len(after))
        ahead = (pool.work - before) * (len(layers) - 1 - passed) // 2  # parts become fewer, states do not
        if pool.work + ahead > most:
            return None
        tables[layer] = table[:, own]
        states = after
    return Automaton(formula, tables, stage_of[layers[0]], stage_of[layers[-1]])
