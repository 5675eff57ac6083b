"""Kleene's three-valued logic (1952) for formulas about layers: layers may be unknown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import assert_never

from puzzledsl.ir.nodes import And, Cardinality, Implies, Is, Logic, Not, Or
from puzzledsl.ir.tables import LayerAssignment


@dataclass(frozen=True)
class Formula:
    """A propositional requirement. `requirement`: its number in the search, or None."""

    name: str
    logic: Logic
    requirement: int | None = None


def holds(formula: Logic, layers: Mapping[int, LayerAssignment]) -> bool | None:
    """Return the truth value of a formula in Kleene's three-valued logic: None if layers that decide it are not in `layers`."""
    match formula:
        case Is(layer=layer, sub_block=sub_block, alternatives=alternatives):
            if layer not in layers:
                return None if alternatives else False
            return getattr(layers[layer], sub_block) in alternatives
        case Not(operand=operand):
            value = holds(operand, layers)
            return None if value is None else not value
        case And(operands=operands):
            return _all([holds(o, layers) for o in operands])
        case Or(operands=operands):
            value = _all([_negated(holds(o, layers)) for o in operands])
            return _negated(value)
        case Implies(condition=condition, consequence=consequence):
            return _negated(_all([holds(condition, layers), _negated(holds(consequence, layers))]))
        case Cardinality(operands=operands, at_least=least, at_most=most):
            values = [holds(o, layers) for o in operands]
            sure = values.count(True)
            return _between(sure, sure + values.count(None), least, most)
        case _:
            assert_never(formula)


def _between(sure: int, possible: int, least: int, most: int | None) -> bool | None:
    """Return the truth value of `least <= count <= most` for a count from `sure` to `possible`; None if undecided."""
    if possible < least or (most is not None and sure > most):
        return False
    return True if sure >= least and (most is None or possible <= most) else None


def layers_of(formula: Logic) -> frozenset[int]:
    """Return the layers that a formula mentions."""
    match formula:
        case Is(layer=layer):
            return frozenset([layer])
        case Not(operand=operand):
            return layers_of(operand)
        case And(operands=operands) | Or(operands=operands) | Cardinality(operands=operands):
            return frozenset().union(*map(layers_of, operands))
        case Implies(condition=condition, consequence=consequence):
            return layers_of(condition) | layers_of(consequence)
        case _:
            assert_never(formula)


def _all(values: list[bool | None]) -> bool | None:
    return False if False in values else None if None in values else True


def _negated(value: bool | None) -> bool | None:
    return None if value is None else not value


def size_of(logic: Logic) -> int:
    """Return the number of parts of a formula."""
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
