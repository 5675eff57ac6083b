"""Measured scores of runs of dropped layers, as columns and as a finite automaton over neighbouring layers.

The score of a run telescopes: with S(first, k) the score of the k layers from `first` on, the k-th layer of a run adds
S(first, k) - S(first, k - 1). So a dropped layer has one column for each position that it may have in a run, and a column of
position k may follow only one of position k - 1. After the longest measured run the count restarts at 1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from puzzledsl.ir.layer_runs import Run
from puzzledsl.ir.tables import LayerAssignment
from puzzledsl.search.problem.columns import Columns, Ints
from puzzledsl.search.problem.residuals import Residuals


def period_of(longest: Sequence[int]) -> int:
    """Return the number of positions after which all counts restart: the least common multiple of the scores' longest runs.

    0 if no score has runs.
    """
    return math.lcm(*longest) if longest else 0


def with_positions(columns: Columns, period: int, dropped: Sequence[LayerAssignment | None]) -> Columns:
    """Return columns with one for each position of a dropped layer; unchanged if no two neighbouring layers can be dropped.

    `dropped`: the choice that drops each layer, if it can be.
    """
    place: list[int] = []
    position: list[int] = []
    start = [0]
    length = longest = 0
    for pairs, gone in zip(columns.pairs, dropped, strict=True):
        length = length + 1 if gone in pairs else 0
        longest = max(longest, length)
        for number, pair in enumerate(pairs):
            positions = range(1, min(period, length) + 1) if pair == gone else range(1)
            place += [number] * len(positions)
            position += positions
        start.append(len(place))
    if period < 2 or longest < 2:
        return columns
    found = replace(columns, place=_whole(place), start=_whole(start))
    return replace(found, position=_whole(position), period=period)


def _whole(numbers: list[int]) -> Ints:
    return np.array(numbers, dtype=np.int64)


def added_by_runs(columns: Columns, own: Mapping[int, int], measured: Mapping[Run, int]) -> dict[int, int]:
    """Return, for each column of a dropped layer, the value that it adds to the score of its run.

    `own[layer]`: score of dropping the layer alone. `measured`: scores of runs. A run that is not measured scores as the run
    without its last layer plus this layer's own score.
    """
    longest = max(length for _, length in measured)
    totals: dict[Run, int] = {}

    def total(first: int, length: int) -> int:
        if length == 0:
            return 0
        run = first, length
        if run not in totals:
            known = measured.get(run)
            totals[run] = total(first, length - 1) + own[first + length - 1] if known is None else known
        return totals[run]

    found = {}
    for column in columns.position.nonzero()[0].tolist():
        length = (int(columns.position[column]) - 1) % longest + 1
        first = int(columns.layer_of[column]) - length + 1
        found[column] = total(first, length) - total(first, length - 1)
    return found


def run_formulas(pool: Residuals, columns: Columns) -> list[int]:
    """Return one formula for each pair of neighbouring layers: positions are consecutive. Their product is the automaton."""
    if not columns.period:
        return []
    found = []
    for layer in range(columns.layers - 1):
        here, after = (_positions(columns, i) for i in (layer, layer + 1))
        if not after.any():
            continue
        ways = []
        for position in sorted(set(here.tolist())):
            follows = (after == 0) | (after == position % columns.period + 1)
            own, others = _bits(here == position), _bits(follows)
            ways.append(pool.every([pool.atom(layer, own), pool.atom(layer + 1, others)]))
        found.append(pool.some(ways))
    return found


def _positions(columns: Columns, layer: int) -> Ints:
    return columns.position[int(columns.start[layer]) : int(columns.start[layer + 1])]


def _bits(mask: np.typing.NDArray[np.bool_]) -> int:
    return sum(1 << place for place in mask.nonzero()[0].tolist())
