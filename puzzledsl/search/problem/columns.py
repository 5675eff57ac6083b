"""Columns of a multiple-choice knapsack: one for each pair of attention and FFN that a layer may have."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from puzzledsl.ir.tables import LayerAssignment

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]
Pairs = tuple[LayerAssignment, ...]


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
    def of(cls, pairs: tuple[Pairs, ...]) -> Columns:
        """Return columns with every pair of every layer once, all with position 0."""
        sizes = [len(here) for here in pairs]
        place = np.concatenate([np.arange(size, dtype=np.int64) for size in sizes])
        start = np.array([0, *accumulate(sizes)], dtype=np.int64)
        return cls(pairs, place, start, np.zeros(len(place), dtype=np.int64))

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

    def of_layer(self, layer: int) -> Pairs:
        """Return the assignments of the columns of a layer."""
        begin, end = int(self.start[layer]), int(self.start[layer + 1])
        return tuple(self.pairs[layer][place] for place in self.place[begin:end].tolist())

    def having(self, layer: int, choice: LayerAssignment) -> list[int]:
        """Return the columns of a layer with this assignment: one, or one for each position; empty if there is none."""
        names = choice.attention, choice.ffn
        begin, end = int(self.start[layer]), int(self.start[layer + 1])
        pairs = [self.pairs[layer][place] for place in self.place[begin:end].tolist()]
        return [begin + i for i, pair in enumerate(pairs) if (pair.attention, pair.ffn) == names]

    @cached_property
    def rank(self) -> Ints:
        """Rank of each column in the canonical order of its layer. Columns with the same assignment share a rank."""
        new = np.ones(len(self.place), dtype=np.int64)
        new[1:] = (self.place[1:] != self.place[:-1]) | (self.layer_of[1:] != self.layer_of[:-1])
        counted = np.cumsum(new)
        return np.asarray(counted - counted[self.start[self.layer_of]])

    def in_order(self, chosen: Ints) -> Mask:
        """Return a mask of the answers [..., layer] in which every position follows that of the layer before."""
        own = self.position[chosen]
        if not self.period:
            return np.ones(own.shape[:-1], dtype=np.bool_)
        before = np.concatenate([np.zeros_like(own[..., :1]), own[..., :-1]], axis=-1)
        return np.asarray(((own == 0) | (own == before % self.period + 1)).all(axis=-1))

    def numbered(self, chosen: Ints) -> Ints:
        """Return answers [..., layer] with each dropped layer's column replaced by that of its actual position; -1 if none."""
        if not self.period:
            return chosen
        found, before = chosen.copy(), np.zeros(chosen.shape[:-1], dtype=np.int64)
        for layer in range(self.layers):
            own = chosen[..., layer]
            dropped = self.position[own] > 0
            before = np.where(dropped, before % self.period + 1, 0)
            found[..., layer] = np.where(dropped, self._by_position[layer][before], own)
        return found

    @cached_property
    def _by_position(self) -> list[Ints]:
        """Column by position, [period + 1] for each layer; -1 if there is none."""
        tables = [np.full(self.period + 1, -1, dtype=np.int64) for _ in range(self.layers)]
        for column in self.position.nonzero()[0].tolist():
            tables[self.layer_of[column]][self.position[column]] = column
        return tables

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
        return Columns(self.pairs, self.place[keep], start, self.position[keep], self.period)
