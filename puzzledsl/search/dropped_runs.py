"""Measured scores of runs of dropped layers, as columns and as a finite automaton over neighbouring layers.

The score of a run telescopes: with S(first, k) the score of the k layers from `first` on, the k-th layer of a run adds
S(first, k) - S(first, k - 1). So a dropped layer has one column for each position that it may have in a run, and the column of
position k follows that of position k - 1 alone. After the longest measured run the count begins anew.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from puzzledsl.ir.layer_runs import Run
from puzzledsl.ir.tables import LayerAssignment
from puzzledsl.search.instance import Columns, Ints
from puzzledsl.search.residuals import Residuals


def period_of(longest: Sequence[int]) -> int:
    """Positions after which all counts begin anew, where scores have runs of at most so many layers; 0 without such scores."""
    return math.lcm(*longest) if longest else 0


def with_positions(columns: Columns, period: int) -> Columns:
    """The columns with one for each position of a dropped layer; as they are where no two neighbours can be dropped."""
    place: list[int] = []
    position: list[int] = []
    start = [0]
    length = longest = 0
    for pairs in columns.pairs:
        length = length + 1 if any(map(is_dropped, pairs)) else 0
        longest = max(longest, length)
        for number, pair in enumerate(pairs):
            positions = range(1, min(period, length) + 1) if is_dropped(pair) else range(1)
            place += [number] * len(positions)
            position += positions
        start.append(len(place))
    if period < 2 or longest < 2:
        return columns
    found = replace(columns, place=_whole(place), start=_whole(start))
    return replace(found, position=_whole(position), period=period)


def _whole(numbers: list[int]) -> Ints:
    return np.array(numbers, dtype=np.int64)


def is_dropped(choice: LayerAssignment) -> bool:
    """True where neither sub-block of a layer is left."""
    return choice.attention == choice.ffn == "noop"


def added_by_runs(columns: Columns, own: Mapping[int, int], measured: Mapping[Run, int]) -> dict[int, int]:
    """Columns of dropped layers, and the value that each adds to the score of its run.

    `own[layer]` is the score of the dropped layer alone. A run that is not measured is the next shorter one and its last layer.
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
    """One formula for each two neighbours: positions follow one another. Their product is the automaton."""
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
