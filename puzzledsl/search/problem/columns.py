"""Columns of a multiple-choice knapsack: one for each pair of attention and FFN that a layer may have.

Where the ends of the model have a choice, they are one more layer behind the last, with a column for each pair of both.

The measured score of a run of dropped layers telescopes: with S(first, k) the score of the k layers from `first` on, the k-th
layer of a run adds S(first, k) - S(first, k - 1). So a dropped layer has one column for each position that it may have in a run,
and a column of position k may follow only one of position k - 1. After the longest measured run the count restarts at 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from puzzledsl.ir.tables import Assignment, LayerAssignment

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]
Pairs = tuple[Assignment, ...]
_ODD = np.array([0x1E3779B97F4A7C15, 0x27D4EB2F165667C5, 0x165667B19E3779F9, 0x3C6EF372FE94F82B], np.int64)


def mixed(keys: Ints) -> Ints:
    """Return a 64-bit hash of each column of `keys` [key][model]: equal for equal keys, and rarely equal for different ones."""
    numbers = np.zeros(keys.shape[1], dtype=np.int64)
    for place, key in enumerate(keys):
        numbers = (numbers ^ (numbers >> 29)) + key * _ODD[place % len(_ODD)]
    return numbers


@dataclass(frozen=True, eq=False)
class Columns:
    """All choices of all layers, in the order of the space. Layer l owns columns `start[l]` to `start[l + 1] - 1`.

    Column i is pair `place[i]` of its layer's `pairs`. If scores have runs of dropped layers, a dropped layer has a column for
    each position in a run: `position[i]`, from 1 to `period`, after which it restarts at 1. All other columns have position 0. A
    `period` of 0 means that runs do not matter.
    """

    pairs: tuple[Pairs, ...]
    place: Ints
    start: Ints
    position: Ints
    period: int = 0

    @classmethod
    def of(cls, pairs: tuple[Pairs, ...]) -> Self:
        """Return columns with every pair of every layer once, all with position 0."""
        sizes = [len(here) for here in pairs]
        place = np.concatenate([np.arange(size, dtype=np.int64) for size in sizes])
        return cls(pairs, place, np.cumsum([0, *sizes]), np.zeros(len(place), dtype=np.int64))

    def with_positions(self, period: int, dropped: Sequence[LayerAssignment | None]) -> Columns:
        """Return these columns, a `dropped` choice's once for each position in a run; unchanged without runs of two or more."""
        place, position, start = list[int](), list[int](), [0]
        length = longest = 0
        for pairs, gone in zip(self.pairs, dropped, strict=True):
            length = length + 1 if gone in pairs else 0
            longest = max(longest, length)
            for number, pair in enumerate(pairs):
                positions = range(1, min(period, length) + 1) if pair == gone else range(1)
                place += [number] * len(positions)
                position += positions
            start.append(len(place))
        if period < 2 or longest < 2:
            return self
        whole = np.array(place), np.array(start), np.array(position)
        return Columns(self.pairs, *whole, period)

    def __len__(self) -> int:
        return len(self.place)

    @property
    def layers(self) -> int:
        """Number of layers."""
        return len(self.start) - 1

    @cached_property
    def sizes(self) -> Ints:
        """Number of columns of each layer, [layers]."""
        return np.diff(self.start)

    @cached_property
    def layer_of(self) -> Ints:
        """Layer of each column, [columns]."""
        return np.repeat(np.arange(self.layers), self.sizes)

    @cached_property
    def choices(self) -> Pairs:
        """Assignment of attention and FFN of each column."""
        layers = zip(self.layer_of.tolist(), self.place.tolist(), strict=True)
        return tuple(self.pairs[layer][place] for layer, place in layers)

    def span(self, layer: int) -> slice:
        """Return the range of a layer's columns."""
        return slice(int(self.start[layer]), int(self.start[layer + 1]))

    def of_layer(self, layer: int) -> Pairs:
        """Return the assignments of the columns of a layer."""
        return tuple(self.pairs[layer][place] for place in self.place[self.span(layer)].tolist())

    def having(self, layer: int, choice: Assignment) -> list[int]:
        """Return the columns of a layer with this assignment: one, or one for each position; empty if there is none."""
        begin = int(self.start[layer])
        return [begin + i for i, pair in enumerate(self.of_layer(layer)) if pair == choice]

    def places(self, largest: int) -> Ints:
        """Return weights [word][column] whose sums, each up to `largest`, are an answer's place in the order of the space."""
        new = np.ones(len(self), dtype=np.int64)  # columns with the same assignment share a rank
        new[1:] = (self.place[1:] != self.place[:-1]) | (self.layer_of[1:] != self.layer_of[:-1])
        rank = np.cumsum(new) - np.cumsum(new)[self.start[self.layer_of]]
        words, size = [np.zeros(len(self), dtype=np.int64)], 1
        for layer, width in reversed([*enumerate(self.sizes.tolist())]):
            if size > 1 and size * width > largest:
                words.append(np.zeros(len(self), dtype=np.int64))
                size = 1
            words[-1][self.span(layer)] = size * rank[self.span(layer)]
            size *= width
        return np.array(words[::-1])

    def numbered(self, chosen: Ints) -> Ints:
        """Return answers [..., layer] with each dropped layer's column replaced by that of its actual position; -1 if none."""
        if not self.period:
            return chosen
        table, gone = np.full((self.layers, self.period + 1), -1, dtype=np.int64), self.position.nonzero()[0]
        table[self.layer_of[gone], self.position[gone]] = gone
        found, before = chosen.copy(), np.zeros(chosen.shape[:-1], dtype=np.int64)
        for layer in range(self.layers):
            own = chosen[..., layer]
            dropped = self.position[own] > 0
            before = np.where(dropped, before % self.period + 1, 0)
            found[..., layer] = np.where(dropped, table[layer][before], own)
        return found

    def least(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return each layer's least value, [..., columns] -> [..., layers]. Every layer must have a column."""
        return np.minimum.reduceat(values, self.start[:-1], axis=-1)

    def most(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return each layer's largest value, [..., columns] -> [..., layers]. Every layer must have a column."""
        return np.maximum.reduceat(values, self.start[:-1], axis=-1)

    def covers(self, keep: Mask) -> bool:
        """True if `keep` has a column of every layer."""
        return bool(np.logical_or.reduceat(keep, self.start[:-1]).all())

    def only(self, keep: Mask) -> Columns:
        """Return the columns in `keep`."""
        sizes = np.add.reduceat(keep.astype(np.int64), self.start[:-1])
        start = np.concatenate([[0], np.cumsum(sizes)])
        return replace(self, place=self.place[keep], start=start, position=self.position[keep])
