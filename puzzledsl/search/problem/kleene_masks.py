"""Kleene truth values of formulas over all columns of one layer at once, the other layers being unknown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import assert_never

import numpy as np

from puzzledsl.ir.nodes import And, Cardinality, Implies, Is, Logic, Not, Or
from puzzledsl.search.problem.columns import Columns, Mask
from puzzledsl.search.problem.formulas import holds, layers_of, size_of
from puzzledsl.search.problem.instance import Problem

LARGEST = 20_000  # limit on parts of a formula times its layers; larger formulas are not evaluated
YES, NO = np.ones(1, dtype=np.bool_), np.zeros(1, dtype=np.bool_)


@dataclass(frozen=True, slots=True, eq=False)
class KleeneMasks:
    """Masks of the columns with which a formula holds, and fails, whatever the other layers are.

    In neither mask, the value depends on other layers. A mask has one entry if it is the same for all columns.
    """

    holds: Mask
    fails: Mask

    def negated(self) -> KleeneMasks:
        """Return the truth values of the negation."""
        return KleeneMasks(self.fails, self.holds)


def open_columns(problem: Problem) -> Mask | None:
    """Return the mask of columns that no single formula rules out; None if a formula is false or a layer has none left.

    Large formulas are checked only for being constantly false.
    """
    columns, reader = problem.columns, _Reader(problem.columns)
    keep = np.ones(len(columns), dtype=np.bool_)
    for formula in problem.formulas:
        if holds(formula.logic, {}) is False:
            return None
        for layer in _layers_to_read(formula.logic):
            begin, end = int(columns.start[layer]), int(columns.start[layer + 1])
            keep[begin:end] &= ~reader.masks(formula.logic, layer).fails
    return keep if columns.covers(keep) else None


def harmless_columns(problem: Problem) -> Mask | None:
    """Return a mask of columns of which every combination satisfies all formulas; None if none is found.

    Each formula restricts one layer, the one that keeps most of its columns.
    """
    columns, reader = problem.columns, _Reader(problem.columns)
    keep = np.ones(len(columns), dtype=np.bool_)
    for formula in problem.formulas:
        ways = []
        for layer in _layers_to_read(formula.logic):
            begin, end = int(columns.start[layer]), int(columns.start[layer + 1])
            left = keep[begin:end] & reader.masks(formula.logic, layer).holds
            ways.append((int(left.sum()), -layer, begin, end, left))
        if not ways or max(ways, key=lambda w: w[:2])[0] == 0:
            return None
        _, _, begin, end, left = max(ways, key=lambda w: w[:2])
        keep[begin:end] = left
    return keep


def _layers_to_read(logic: Logic) -> list[int]:
    """Return the layers of a formula; none if it is too large to be evaluated once for each layer."""
    layers = layers_of(logic)
    return sorted(layers) if len(layers) * size_of(logic) <= LARGEST else []


class _Reader:
    """Evaluates formulas over columns in Kleene's logic, as `metrics.holds` does; caches the masks of atoms."""

    def __init__(self, columns: Columns) -> None:
        self.columns = columns
        self._known: dict[tuple[int, str, tuple[str, ...]], Mask] = {}

    def masks(self, logic: Logic, layer: int) -> KleeneMasks:
        """Return the truth values of a formula over the columns of a layer."""
        match logic:
            case Is():
                return self._choice(logic, layer)
            case Not(operand=operand):
                return self.masks(operand, layer).negated()
            case And(operands=operands):
                return _all([self.masks(o, layer) for o in operands])
            case Or(operands=operands):
                return _all([self.masks(o, layer).negated() for o in operands]).negated()
            case Implies(condition=condition, consequence=consequence):
                both = [self.masks(condition, layer), self.masks(consequence, layer).negated()]
                return _all(both).negated()
            case Cardinality(operands=operands, at_least=least, at_most=most):
                return _counted([self.masks(o, layer) for o in operands], least, most)
            case _:
                assert_never(logic)

    def _choice(self, choice: Is, layer: int) -> KleeneMasks:
        if choice.layer != layer:
            return KleeneMasks(NO, NO if choice.alternatives else YES)
        pairs = self.columns.pairs[layer]
        key = id(pairs), choice.sub_block, choice.alternatives
        if key not in self._known:
            inside = [getattr(pair, choice.sub_block) in choice.alternatives for pair in pairs]
            self._known[key] = np.array(inside, dtype=np.bool_)
        begin, end = self.columns.start[layer], self.columns.start[layer + 1]
        holds = self._known[key][self.columns.place[begin:end]]
        return KleeneMasks(holds, ~holds)


def _all(parts: Sequence[KleeneMasks]) -> KleeneMasks:
    holds, fails = YES, NO
    for part in parts:
        holds, fails = holds & part.holds, fails | part.fails
    return KleeneMasks(holds, fails)


def _counted(parts: Sequence[KleeneMasks], least: int, most: int | None) -> KleeneMasks:
    """Return the truth values of "from `least` to `most` of the parts hold"."""
    sure, possible = np.zeros(1, dtype=np.int64), np.full(1, len(parts), dtype=np.int64)
    for part in parts:
        sure, possible = sure + part.holds, possible - part.fails
    most = len(parts) if most is None else most
    return KleeneMasks((sure >= least) & (possible <= most), (possible < least) | (sure > most))
