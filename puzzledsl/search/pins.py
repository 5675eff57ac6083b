"""Pins: one alternative fixed in one sub-block of one layer, the rest of the search free."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import assert_never

import numpy as np
from numpy.typing import NDArray

from puzzledsl.ir.alternatives import SubBlock
from puzzledsl.ir.nodes import And, Cardinality, Implies, Is, Logic, Not, Or
from puzzledsl.search.instance import Columns, Ints, Mask, Problem

SUB_BLOCKS: tuple[SubBlock, SubBlock] = ("attention", "ffn")


@dataclass(frozen=True, slots=True, eq=False)
class Pin:
    """An alternative of one sub-block, and the columns of its layer that have it."""

    layer: int
    sub_block: SubBlock
    alternative: str
    columns: Ints

    def keep(self, columns: Columns) -> Mask:
        """The columns that a problem with this pin has: those of the pin, and all of the other layers."""
        keep = columns.layer_of != self.layer
        keep[self.columns] = True
        return np.asarray(keep, dtype=np.bool_)


def pins_of(columns: Columns) -> list[Pin]:
    """Every pin of a search, layer by layer, attention first, in the order of the space."""
    pins = []
    for layer in range(columns.layers):
        here, begin = columns.of_layer(layer), int(columns.start[layer])
        for sub_block in SUB_BLOCKS:
            names = np.array([getattr(choice, sub_block) for choice in here])
            for name in dict.fromkeys(names.tolist()):
                pins.append(Pin(layer, sub_block, name, begin + (names == name).nonzero()[0]))
    return pins


def without(pin: Pin, kept: Mask) -> Pin:
    """The pin in a problem on some of the columns: renumbered, without those that are left out."""
    numbers = np.cumsum(kept) - 1
    return Pin(pin.layer, pin.sub_block, pin.alternative, numbers[pin.columns[kept[pin.columns]]])


def classes_of(problem: Problem, pins: Sequence[Pin]) -> Ints:
    """For each pin the first one that must have the same optimum: of a layer with the same figures, where no formulas tell
    layers apart."""
    if problem.formulas:
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


# ---------------------------------------------------------------- formulas


def lawful(problem: Problem, chosen: Ints) -> Mask:
    """Which of many answers, [answer][layer], meet every formula."""
    holds = np.ones(len(chosen), dtype=np.bool_)
    if problem.formulas:
        reader = _Reader(problem.columns, chosen)
        for formula in problem.formulas:
            holds &= reader.truth(formula.logic)
    return holds


@dataclass(frozen=True, slots=True, eq=False)
class _Reader:
    columns: Columns
    chosen: Ints

    def truth(self, logic: Logic) -> NDArray[np.bool_]:
        match logic:
            case Is(layer=layer, sub_block=sub_block, alternatives=names):
                here = self.columns.of_layer(layer)
                inside = np.array([getattr(choice, sub_block) in names for choice in here], dtype=np.bool_)
                return np.asarray(inside[self.chosen[:, layer] - self.columns.start[layer]])
            case Not(operand=operand):
                return ~self.truth(operand)
            case And(operands=operands):
                return np.asarray(self._count(operands) == len(operands))
            case Or(operands=operands):
                return np.asarray(self._count(operands) > 0)
            case Implies(condition=condition, consequence=consequence):
                return ~self.truth(condition) | self.truth(consequence)
            case Cardinality(operands=operands, at_least=least, at_most=most):
                count = self._count(operands)
                return (count >= least) & (count <= (len(operands) if most is None else most))
            case _:
                assert_never(logic)

    def _count(self, operands: Sequence[Logic]) -> Ints:
        count = np.zeros(len(self.chosen), dtype=np.int64)
        for operand in operands:
            count += self.truth(operand)
        return count
