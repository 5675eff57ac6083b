"""Propositional requirements of a search, with the facts that they compare looked up."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from itertools import groupby

from puzzledsl.ir.logic import holds, layers_of, size_of
from puzzledsl.ir.nodes import (
    And,
    Cardinality,
    Compare,
    FactTerm,
    Implies,
    Linear,
    Logic,
    Longest,
    Not,
    Or,
    Runs,
    TableTerm,
    WeightedTerm,
)
from puzzledsl.search.tables import Tables

__all__ = ["Formula", "holds", "layers_of", "size_of", "with_facts"]


@dataclass(frozen=True)
class Formula:
    """A propositional requirement. `requirement`: its number in the search, or None."""

    name: str
    logic: Logic
    requirement: int | None = None


def with_facts(tables: Tables, logic: Logic) -> Logic:
    """Return a formula whose comparisons have tables in place of facts."""

    def of(part: Logic) -> Logic:
        return with_facts(tables, part)

    match logic:
        case Compare(left=linear):
            terms = tuple(term for weighted in linear.terms for term in _looked_up(tables, weighted))
            return logic.model_copy(update={"left": Linear(terms=terms, constant=linear.constant)})
        case Not(operand=operand):
            return Not(operand=of(operand))
        case Implies(condition=condition, consequence=consequence):
            return Implies(condition=of(condition), consequence=of(consequence))
        case And(operands=parts) | Or(operands=parts) | Cardinality(operands=parts):
            return logic.model_copy(update={"operands": tuple(map(of, parts))})
        case Runs(statements=parts) | Longest(statements=parts):
            return logic.model_copy(update={"statements": tuple(map(of, parts))})
        case _:
            return logic


def _looked_up(tables: Tables, weighted: WeightedTerm) -> list[WeightedTerm]:
    """Return a term as tables: one for each group of neighbouring layers that agree."""
    term = weighted.term
    if not isinstance(term, FactTerm):
        return [weighted]
    found = []
    for (names, values), layers in groupby(term.layers, lambda layer: _facts(tables, term, layer)):
        is_attention = term.sub_block == "attention"
        cells = tuple((value,) for value in values) if is_attention else (values,)
        table = TableTerm(
            attention=names if is_attention else (),
            ffn=() if is_attention else names,
            values=cells,
            layers=tuple(layers),
        )
        found.append(WeightedTerm(coefficient=weighted.coefficient, term=table))
    return found


def _facts(tables: Tables, term: FactTerm, layer: int) -> tuple[tuple[str, ...], tuple[Fraction, ...]]:
    """Return the names of a layer's alternatives and the parent, and the fact of each."""
    names = tuple(a.name for a in getattr(tables.layers[layer].with_parent(), term.sub_block))
    values = (tables.fact(term.sub_block, term.attribute, layer, name) for name in names)
    return names, tuple(map(Fraction, values))
