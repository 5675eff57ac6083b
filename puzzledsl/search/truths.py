"""What formulas say of one layer's columns, whatever the other layers are: of all columns at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import assert_never

import numpy as np

from puzzledsl.ir.nodes import And, Cardinality, Implies, Is, Logic, Not, Or
from puzzledsl.search.instance import Columns, Mask, Problem
from puzzledsl.search.metrics import holds, layers_of

LARGEST = 20_000  # parts of a formula times its layers, that are read
YES, NO = np.ones(1, dtype=np.bool_), np.zeros(1, dtype=np.bool_)


@dataclass(frozen=True, slots=True, eq=False)
class Truths:
    """With which columns a formula holds, and with which it does not; with the others that hangs on other layers. Of all columns
    alike, one entry says it."""

    holds: Mask
    fails: Mask

    def negated(self) -> Truths:
        """Of the formula's opposite."""
        return Truths(self.fails, self.holds)


def open_columns(problem: Problem) -> Mask | None:
    """Columns that each formula allows whatever the other layers are; None where a layer is left with none. Large formulas are
    only asked whether they hold at all."""
    columns, reader = problem.columns, _Reader(problem.columns)
    keep = np.ones(len(columns), dtype=np.bool_)
    for formula in problem.formulas:
        if holds(formula.logic, {}) is False:
            return None
        for layer in _layers_to_read(formula.logic):
            begin, end = int(columns.start[layer]), int(columns.start[layer + 1])
            keep[begin:end] &= ~reader.truths(formula.logic, layer).fails
    return keep if columns.covers(keep) else None


def harmless_columns(problem: Problem) -> Mask | None:
    """Columns with which all formulas hold: each by the layer that keeps most of its columns; None where that cannot be."""
    columns, reader = problem.columns, _Reader(problem.columns)
    keep = np.ones(len(columns), dtype=np.bool_)
    for formula in problem.formulas:
        ways = []
        for layer in _layers_to_read(formula.logic):
            begin, end = int(columns.start[layer]), int(columns.start[layer + 1])
            left = keep[begin:end] & reader.truths(formula.logic, layer).holds
            ways.append((int(left.sum()), -layer, begin, end, left))
        if not ways or max(ways, key=lambda w: w[:2])[0] == 0:
            return None
        _, _, begin, end, left = max(ways, key=lambda w: w[:2])
        keep[begin:end] = left
    return keep


def _layers_to_read(logic: Logic) -> list[int]:
    """The layers of a formula; none of one that is too large to be read once a layer."""
    layers = layers_of(logic)
    return sorted(layers) if len(layers) * size_of(logic) <= LARGEST else []


def size_of(logic: Logic) -> int:
    """The number of parts of a formula."""
    match logic:
        case Is():
            return 1
        case Not(operand=operand):
            return 1 + size_of(operand)
        case And(operands=operands) | Or(operands=operands) | Cardinality(operands=operands):
            return 1 + sum(map(size_of, operands))
        case Implies(condition=condition, consequence=consequence):
            return 1 + size_of(condition) + size_of(consequence)
        case _:
            assert_never(logic)


class _Reader:
    """Reads formulas over some columns (Kleene's logic, as `metrics.holds`); what alternatives columns have is looked up once."""

    def __init__(self, columns: Columns) -> None:
        self.columns = columns
        self._known: dict[tuple[int, str, tuple[str, ...]], Mask] = {}

    def truths(self, logic: Logic, layer: int) -> Truths:
        """The truths of a formula over the columns of a layer."""
        match logic:
            case Is():
                return self._choice(logic, layer)
            case Not(operand=operand):
                return self.truths(operand, layer).negated()
            case And(operands=operands):
                return _all([self.truths(o, layer) for o in operands])
            case Or(operands=operands):
                return _all([self.truths(o, layer).negated() for o in operands]).negated()
            case Implies(condition=condition, consequence=consequence):
                both = [self.truths(condition, layer), self.truths(consequence, layer).negated()]
                return _all(both).negated()
            case Cardinality(operands=operands, at_least=least, at_most=most):
                return _counted([self.truths(o, layer) for o in operands], least, most)
            case _:
                assert_never(logic)

    def _choice(self, choice: Is, layer: int) -> Truths:
        if choice.layer != layer:
            return Truths(NO, NO if choice.alternatives else YES)
        pairs = self.columns.pairs[layer]
        key = id(pairs), choice.sub_block, choice.alternatives
        if key not in self._known:
            inside = [getattr(pair, choice.sub_block) in choice.alternatives for pair in pairs]
            self._known[key] = np.array(inside, dtype=np.bool_)
        begin, end = self.columns.start[layer], self.columns.start[layer + 1]
        holds = self._known[key][self.columns.place[begin:end]]
        return Truths(holds, ~holds)


def _all(parts: Sequence[Truths]) -> Truths:
    holds, fails = YES, NO
    for part in parts:
        holds, fails = holds & part.holds, fails | part.fails
    return Truths(holds, fails)


def _counted(parts: Sequence[Truths], least: int, most: int | None) -> Truths:
    """Truths of "from `least` to `most` of the parts hold"."""
    sure, possible = np.zeros(1, dtype=np.int64), np.full(1, len(parts), dtype=np.int64)
    for part in parts:
        sure, possible = sure + part.holds, possible - part.fails
    most = len(parts) if most is None else most
    return Truths((sure >= least) & (possible <= most), (possible < least) | (sure > most))
