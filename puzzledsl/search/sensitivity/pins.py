"""Pins: restrictions of a search that fix the alternative of one sub-block of one layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import assert_never

import numpy as np
from numpy.typing import NDArray

from puzzledsl.alternatives.alternative import SubBlock
from puzzledsl.ir.nodes import And, Cardinality, Implies, Is, Logic, Not, Or
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


# ---------------------------------------------------------------- formulas


class Lawful:
    """Evaluates a problem's formulas for many answers at once."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self._inside: dict[Is, Mask] = {}

    def __call__(self, chosen: Ints) -> Mask:
        """Return the mask of answers [answer][layer] that satisfy every formula and have consecutive positions in runs."""
        holds = self.problem.columns.in_order(chosen)
        for formula in self.problem.formulas:
            holds &= self._truth(formula.logic, chosen)
        return holds

    def _truth(self, logic: Logic, chosen: Ints) -> NDArray[np.bool_]:
        match logic:
            case Is(layer=layer):
                inside: NDArray[np.bool_] = self._columns(logic)[chosen[:, layer]]
                return inside
            case Not(operand=operand):
                return ~self._truth(operand, chosen)
            case And(operands=operands):
                return np.asarray(self._count(operands, chosen) == len(operands))
            case Or(operands=operands):
                return np.asarray(self._count(operands, chosen) > 0)
            case Implies(condition=condition, consequence=consequence):
                return ~self._truth(condition, chosen) | self._truth(consequence, chosen)
            case Cardinality(operands=operands, at_least=least, at_most=most):
                count = self._count(operands, chosen)
                return (count >= least) & (count <= (len(operands) if most is None else most))
            case _:
                assert_never(logic)

    def _count(self, operands: Sequence[Logic], chosen: Ints) -> Ints:
        count = np.zeros(len(chosen), dtype=np.int64)
        for operand in operands:
            count += self._truth(operand, chosen)
        return count

    def _columns(self, choice: Is) -> Mask:
        """Return the mask of columns with one of the alternatives of `choice`."""
        if choice not in self._inside:
            columns = self.problem.columns
            begin, end = int(columns.start[choice.layer]), int(columns.start[choice.layer + 1])
            inside = np.zeros(len(columns), dtype=np.bool_)
            inside[begin:end] = [
                getattr(pair, choice.sub_block) in choice.alternatives
                for pair in columns.of_layer(choice.layer)
            ]
            self._inside[choice] = inside
        return self._inside[choice]
