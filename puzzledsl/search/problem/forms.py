"""Linear forms of a search: coefficients over the space's columns and over the parent, rounded to integer rows."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import product

import numpy as np

from puzzledsl.ir.nodes import LayerChoice, ScoreTerm
from puzzledsl.ir.tables import LayerAssignment
from puzzledsl.search.needs import terms_of
from puzzledsl.search.problem.coefficients import Coefficients, Vector, Whole
from puzzledsl.search.problem.columns import Columns, Ints
from puzzledsl.search.problem.dropped_runs import period_of, with_positions
from puzzledsl.search.problem.instance import LARGEST_SUM, Row
from puzzledsl.search.tables import PARENT, Tables


class Forms:
    """Columns and coefficients of a search, which its problems at all batches share."""

    def __init__(self, tables: Tables) -> None:
        self.tables = tables
        known = {id(choice): _names(choice) for choice in {id(c): c for c in tables.layers}.values()}
        names = [known[id(choice)] for choice in tables.layers]
        asked = {term.score for term in terms_of(tables.search) if isinstance(term, ScoreTerm)}
        longest = [max(length for _, length in runs) for name, runs in tables.runs.items() if name in asked]
        self.columns = with_positions(Columns.of(_pairs_of(names)), period_of(longest), tables.dropped())
        attention, ffn = [a for a, _ in names], [f for _, f in names]
        self.coefficients = Coefficients(tables, attention, ffn, columns=self.columns)
        parent = [(PARENT.attention,)] * len(names)
        self.parent = Coefficients(tables, parent, parent, like=self.coefficients)

    def output_of(self, scenario: str) -> int:
        """Return the number of tokens that a scenario generates for each sequence."""
        return self.tables.costs.scenarios[scenario][0].output

    def row(self, name: str, vector: Vector, limit: Fraction, strict: bool, requirement: int | None) -> Row:
        """Return `vector <= limit` (`<` if `strict`) as a row: exact, or a relaxation if integers would be too large."""
        exact = (limit - vector.constant) / vector.unit
        whole = (
            -(-exact.numerator // exact.denominator) - 1 if strict else exact.numerator // exact.denominator
        )
        values, divisor = self.scaled(vector.values)
        whole //= divisor
        least, most = int(self.columns.least(values).sum()), int(self.columns.most(values).sum())
        return Row(name, values, max(min(whole, most), least - 1), requirement, divisor == 1)

    def scaled(self, values: Whole) -> tuple[Ints, int]:
        """Return (values // divisor, divisor) with the least divisor for which no child's sum exceeds LARGEST_SUM."""
        magnitude = int(self.columns.most(np.abs(values)).sum())
        divisor = -(-magnitude // LARGEST_SUM) if magnitude > LARGEST_SUM else 1
        return np.asarray(values // divisor if divisor > 1 else values, dtype=np.int64), divisor


Names = tuple[tuple[str, ...], tuple[str, ...]]


def _names(choice: LayerChoice) -> Names:
    """Return the canonical names of a layer's attention alternatives and of its FFN alternatives."""
    return tuple(a.name for a in choice.attention), tuple(a.name for a in choice.ffn)


def _pairs_of(layers: Sequence[Names]) -> tuple[tuple[LayerAssignment, ...], ...]:
    """Return all pairs of each layer; layers with the same names share a tuple."""
    known: dict[Names, tuple[LayerAssignment, ...]] = {}
    for names in layers:
        if names not in known:
            known[names] = tuple(LayerAssignment(attention=a, ffn=f) for a, f in product(*names))
    return tuple(known[names] for names in layers)
