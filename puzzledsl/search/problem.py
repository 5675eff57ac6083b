"""Builds the integer problems of a search: one for each combination of candidate batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import replace
from fractions import Fraction
from itertools import product

import numpy as np

from puzzledsl.ir.alternatives import name_of
from puzzledsl.ir.nodes import LayerChoice, Program, Search
from puzzledsl.ir.tables import CostTable, LayerAssignment, ScoreTable
from puzzledsl.search.coefficients import Coefficients, Vector, Whole
from puzzledsl.search.instance import LARGEST_SUM, Columns, Ints, Problem, Row
from puzzledsl.search.rows import fitting_rows, formulas_of, goal_of, requirement_rows
from puzzledsl.search.tables import PARENT, Tables, tables_of


def build_problems(
    program: Program, search: str, costs: CostTable, scores: Mapping[str, ScoreTable]
) -> list[Problem]:
    """One problem for each combination of candidate batches. Raises DiagnosticError when a table or an entry is missing."""
    return Builder(tables_of(program, search, costs, scores)).all()


def build_problem(
    program: Program, search: str, costs: CostTable, scores: Mapping[str, ScoreTable]
) -> Problem:
    """The one problem of a search whose batches are given (the smallest batches, where they are a decision)."""
    return build_problems(program, search, costs, scores)[0]


class Builder:
    """Makes a search's problems; keeps what they share."""

    def __init__(self, tables: Tables) -> None:
        self.tables = tables
        known = {id(choice): _names(choice) for choice in {id(c): c for c in tables.layers}.values()}
        names = [known[id(choice)] for choice in tables.layers]
        self.columns = Columns.of(_pairs_of(names))
        self.coefficients = Coefficients(tables, [a for a, _ in names], [f for _, f in names])
        parent = [(PARENT.attention,)] * len(names)
        self.parent = Coefficients(tables, parent, parent, like=self.coefficients)

    def all(self) -> list[Problem]:
        """One problem a combination of batches, smallest batches first."""
        return [self.at(batches) for batches in self.tables.batch_choices()]

    def at(self, batches: Mapping[str, int]) -> Problem:
        """The problem at these batches."""
        search = self.tables.search
        rows = [
            *fitting_rows(self, batches),
            *(
                row
                for index, requirement in enumerate(search.requirements)
                for row in requirement_rows(self, index, requirement, batches)
            ),
        ]
        return Problem(
            name=search.name,
            columns=self.columns,
            goal=goal_of(self, search.objective, search.sense, batches),
            rows=tuple(rows),
            formulas=tuple(formulas_of(search.requirements)),
            batches=dict(batches),
            preferences=tuple(goal_of(self, p.goal, p.sense, batches) for p in search.preferences),
        )

    def for_search(self, search: Search) -> Builder:
        """The builder of another search over the same space and tables; shares every coefficient already computed."""
        other = copy(self)
        other.tables = replace(self.tables, search=search)
        return other

    def row(self, name: str, vector: Vector, limit: Fraction, strict: bool, requirement: int | None) -> Row:
        """`vector <= limit` (`<` where strict) as a row: exact, or a relaxation where integers would be too large."""
        exact = (limit - vector.constant) / vector.unit
        whole = (
            -(-exact.numerator // exact.denominator) - 1 if strict else exact.numerator // exact.denominator
        )
        values, divisor = self.scaled(vector.values)
        whole //= divisor
        least, most = int(self.columns.least(values).sum()), int(self.columns.most(values).sum())
        return Row(name, values, max(min(whole, most), least - 1), requirement, divisor == 1)

    def scaled(self, values: Whole) -> tuple[Ints, int]:
        """Integers and what they were divided by (rounding down) so that no child's sum is above LARGEST_SUM."""
        magnitude = int(self.columns.most(np.abs(values)).sum())
        divisor = -(-magnitude // LARGEST_SUM) if magnitude > LARGEST_SUM else 1
        return np.asarray(values // divisor if divisor > 1 else values, dtype=np.int64), divisor


Names = tuple[tuple[str, ...], tuple[str, ...]]


def _names(choice: LayerChoice) -> Names:
    """The canonical names of a layer's attentions and of its FFNs."""
    return tuple(map(name_of, choice.attention)), tuple(map(name_of, choice.ffn))


def _pairs_of(layers: Sequence[Names]) -> tuple[tuple[LayerAssignment, ...], ...]:
    """Every pair of each layer; layers with the same names share theirs."""
    known: dict[Names, tuple[LayerAssignment, ...]] = {}
    for names in layers:
        if names not in known:
            known[names] = tuple(LayerAssignment(attention=a, ffn=f) for a, f in product(*names))
    return tuple(known[names] for names in layers)
