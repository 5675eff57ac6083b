"""Formulas in normal form as constraints of the CP-SAT model.

A part that is required becomes clauses, or a linear constraint of the columns' own Booleans. A part inside a disjunction or a
count has a helper Boolean: one that implies it, or, for the upper limit of a count, one that it implies.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, assert_never

from puzzledsl.search.cpsat.constraints import new_bool
from puzzledsl.search.problem.columns import Columns
from puzzledsl.search.problem.residuals import FALSE, TRUE, Atom, Count, Every, Residuals, Some, Sum

if TYPE_CHECKING:
    from ortools.sat.python.cp_model_helper import CpModelProto

Clause = frozenset[int]


class FormulaWriter:
    """Adds formulas of one pool to a model. `choices[column]`: the column's Boolean."""

    def __init__(
        self, model: CpModelProto, pool: Residuals, columns: Columns, choices: Sequence[int]
    ) -> None:
        self.model, self.pool, self.columns, self.choices = model, pool, columns, choices
        self._helpers: dict[int, int] = {}
        self._equal: set[int] = set()
        self._implied_by: dict[int, int] = {}
        self.name = ""

    def add(self, formula: int, name: str) -> None:
        """Require a formula of the pool; its constraints get the name."""
        self.name = name
        for part in self.pool.parts(formula):
            self._require(part)

    def _require(self, formula: int, *enforced: int) -> None:
        """Require a formula, if the Boolean `enforced` is given wherever that is true."""
        match self.pool.nodes[formula]:
            case Every(parts=parts):
                for part in parts:
                    self._require(part, *enforced)
            case Count(parts=parts, least=least, most=most):
                self._count(parts, least, most, enforced)
            case Sum(terms=terms, least=least, most=most):
                self._sum(terms, least, most, enforced)
            case Atom(layer=layer, mask=mask) if 2 * mask.bit_count() > self.columns.sizes[layer]:
                for column in self._columns(layer, [((1 << int(self.columns.sizes[layer])) - 1) & ~mask]):
                    self._clause({-column - 1, *(-literal - 1 for literal in enforced)})
            case Atom() | Some() | None:
                if formula != TRUE:
                    self._clause({*self._clause_of(formula), *(-literal - 1 for literal in enforced)})
            case node:
                assert_never(node)

    def _clause_of(self, formula: int) -> set[int]:
        """Return literals of which one is true only where the formula holds."""
        match self.pool.nodes[formula]:
            case Atom(layer=layer, mask=mask):
                begin, end = int(self.columns.start[layer]), int(self.columns.start[layer + 1])
                return {self.choices[begin + bit] for bit in range(end - begin) if mask >> bit & 1}
            case Some(parts=parts):
                return set().union(*map(self._clause_of, parts))
            case _:
                return set() if formula == FALSE else {self._helper(formula)}

    def _helper(self, formula: int) -> int:
        """Return a Boolean that implies the formula."""
        if formula not in self._helpers:
            self._helpers[formula] = new_bool(self.model, f"part of {self.name}")
            self._require(formula, self._helpers[formula])
        return self._helpers[formula]

    def _implied(self, formula: int) -> int:
        """Return a Boolean that is true wherever the formula holds."""
        if formula not in self._implied_by:
            self._implied_by[formula] = -self._helper(self.pool.opposite(formula)) - 1
        return self._implied_by[formula]

    def _equivalent(self, formula: int) -> int:
        """Return a Boolean that is true exactly where the formula holds."""
        helper = self._helper(formula)
        if formula not in self._equal:
            self._equal.add(formula)
            self._require(self.pool.opposite(formula), -helper - 1)
        return helper

    def _count(self, parts: Sequence[int], least: int, most: int, enforced: Sequence[int]) -> None:
        literals: list[int] = []
        for part in parts:
            node = self.pool.nodes[part]
            if isinstance(node, Atom):
                literals += sorted(self._clause_of(part))  # one column a layer: their sum is the atom's truth
            elif most >= len(parts):
                literals.append(self._helper(part))
            else:
                literals.append(self._equivalent(part) if least > 0 else self._implied(part))
        self._linear([(literal, 1) for literal in literals], least, most, enforced)

    def _sum(self, terms: Sequence[tuple[int, int]], least: int, most: int, enforced: Sequence[int]) -> None:
        if len(terms) == 2:
            self._between_two(terms, least, most, enforced)
            return
        weighted = [
            (self.choices[int(self.columns.start[layer]) + bit], number)
            for layer, vector in terms
            for bit, number in enumerate(self.pool.vectors[vector])
            if number
        ]
        self._linear(weighted, least, most, enforced)

    def _between_two(
        self, terms: Sequence[tuple[int, int]], least: int, most: int, enforced: Sequence[int]
    ) -> None:
        """Constrain the sum of two layers' numbers by thresholds, a tight relaxation: x >= v implies y <= most - v."""
        (first, own), (second, other) = terms
        values, others = (self.pool.by_value(vector) for vector in (own, other))
        for value in values:
            above = self._columns(first, [m for v, m in values.items() if v >= value])
            below = self._columns(first, [m for v, m in values.items() if v <= value])
            if value + max(others) > most:
                allowed = self._columns(second, [m for v, m in others.items() if v <= most - value])
                self._threshold(above, allowed, enforced)
            if value < least:
                allowed = self._columns(second, [m for v, m in others.items() if v >= least - value])
                self._threshold(below, allowed, enforced)

    def _threshold(self, few: Sequence[int], many: Sequence[int], enforced: Sequence[int]) -> None:
        """Require one of `many` where one of `few` is true; both are columns of one layer each."""
        self._linear([*((c, 1) for c in few), *((c, -1) for c in many)], -1, 0, enforced)

    def _columns(self, layer: int, masks: Sequence[int]) -> list[int]:
        begin, mask = int(self.columns.start[layer]), sum(masks)
        return [self.choices[begin + bit] for bit in range(mask.bit_length()) if mask >> bit & 1]

    def _clause(self, literals: set[int]) -> None:
        constraint = self.model.constraints.add()
        constraint.name = self.name
        constraint.bool_or.literals.extend(sorted(literals))

    def _linear(
        self, weighted: Sequence[tuple[int, int]], least: int, most: int, enforced: Sequence[int]
    ) -> None:
        """Require a sum of weights of true literals from `least` to `most`."""
        constraint = self.model.constraints.add()
        constraint.name = self.name
        constant, coefficients = 0, dict[int, int]()
        for literal, weight in weighted:  # a negative literal is 1 minus its variable
            variable, sign = (literal, 1) if literal >= 0 else (-literal - 1, -1)
            coefficients[variable] = coefficients.get(variable, 0) + sign * weight
            constant += 0 if literal >= 0 else weight
        constraint.linear.vars.extend([*coefficients])
        constraint.linear.coeffs.extend([*coefficients.values()])
        constraint.linear.domain.extend([least - constant, most - constant])
        constraint.enforcement_literal.extend([*enforced])
