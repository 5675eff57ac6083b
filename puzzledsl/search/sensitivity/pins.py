"""Pins: restrictions of a search that fix the alternative of one sub-block of one layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from puzzledsl.alternatives.alternative import SubBlock
from puzzledsl.search.problem.columns import Columns, Ints, Mask
from puzzledsl.search.problem.instance import Problem

SUB_BLOCKS: tuple[SubBlock, SubBlock] = ("attention", "ffn")


@dataclass(frozen=True, slots=True, eq=False)
class Pin:
    """An alternative fixed in one sub-block, and the columns of the layer that have it."""

    layer: int
    sub_block: SubBlock
    alternative: str
    columns: Ints

    def keep(self, columns: Columns) -> Mask:
        """Return the mask of columns allowed with this pin: those of the pin, and all of other layers."""
        keep = columns.layer_of != self.layer
        keep[self.columns] = True
        return np.asarray(keep, dtype=np.bool_)


def pins_of(columns: Columns) -> list[Pin]:
    """Return every pin of a search, by layer, attention before FFN, in the order of the space."""
    pins = []
    for layer in range(columns.layers):
        here, begin = columns.of_layer(layer), int(columns.start[layer])
        for sub_block in SUB_BLOCKS:
            names = np.array([getattr(choice, sub_block) for choice in here])
            for name in dict.fromkeys(names.tolist()):
                pins.append(Pin(layer, sub_block, name, begin + (names == name).nonzero()[0]))
    return pins


def without(pin: Pin, kept: Mask) -> Pin:
    """Return the pin for the problem on the columns in `kept`, with its columns renumbered."""
    numbers = np.cumsum(kept) - 1
    return Pin(pin.layer, pin.sub_block, pin.alternative, numbers[pin.columns[kept[pin.columns]]])


def classes_of(problem: Problem, pins: Sequence[Pin]) -> Ints:
    """Return, for each pin, the first pin that must have the same optimum, [pins].

    This is the same alternative in a layer with equal values, up to constants. With formulas or scores of runs, which distinguish
    layers, every pin is its own.
    """
    if problem.formulas or problem.columns.period:
        return np.arange(len(pins))
    figures = np.vstack([problem.goal.values, problem.matrix])
    start = problem.columns.start
    same: dict[tuple[bytes, bytes], int] = {}
    first = np.arange(len(pins))
    blocks = [
        np.ascontiguousarray(figures[:, begin:end] - figures[:, begin:end].min(axis=1, keepdims=True))
        for begin, end in zip(start[:-1].tolist(), start[1:].tolist(), strict=True)
    ]
    for number, pin in enumerate(pins):
        key = blocks[pin.layer].tobytes(), (pin.columns - start[pin.layer]).tobytes()
        first[number] = same.setdefault(key, number)
    return first
