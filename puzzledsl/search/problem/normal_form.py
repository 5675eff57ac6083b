"""Normal form of requirements on layers: however they are written, equal meanings become equal nodes of a pool of formulas."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from itertools import groupby, pairwise
from typing import Any, Protocol, assert_never

import numpy as np

from puzzledsl.alternatives.alternative import Site, SubBlock
from puzzledsl.ir import nodes
from puzzledsl.ir.logic import taken_by
from puzzledsl.ir.tables import layers_of_child
from puzzledsl.search.problem.columns import Columns
from puzzledsl.search.problem.residuals import FALSE, TRUE, Residuals, bits_of, places_by

PARTS = ("operand", "condition", "consequence", "operands", "statements")  # fields that hold formulas


@dataclass(frozen=True)
class Formula:
    """A propositional requirement, with facts looked up. `requirement`: its number in the search, or None."""

    name: str
    logic: nodes.Logic
    requirement: int | None = None


class Facts(Protocol):
    """Alternatives of each layer and their facts."""

    @property
    def layers(self) -> tuple[nodes.LayerChoice, ...]:
        """The alternatives of each layer."""

    def fact(self, sub_block: SubBlock, attribute: str, layer: int, name: str) -> int:
        """Return the number `attribute` of an alternative in a layer, such as its width."""


def with_facts(tables: Facts, logic: nodes.Logic) -> nodes.Logic:
    """Return a formula with tables of numbers in place of facts and counts in its comparisons."""

    def of(part: Any) -> Any:
        return tuple(map(of, part)) if isinstance(part, tuple) else with_facts(tables, part)

    if isinstance(logic, nodes.Compare):
        terms = [
            nodes.WeightedTerm(coefficient=weighted.coefficient, term=term)
            for weighted in logic.left.terms
            for term in as_tables(tables, weighted.term)
        ]
        left = nodes.Linear(terms=tuple(terms), constant=logic.left.constant)
        return logic.model_copy(update={"left": left})
    parts = {name: of(getattr(logic, name)) for name in PARTS if name in type(logic).model_fields}
    return logic.model_copy(update=parts) if parts else logic


def as_tables(tables: Facts, term: nodes.Term) -> Iterator[nodes.Term]:
    """Yield a count or a fact as tables: one for each group of neighbouring layers that agree. Other terms stay as they are."""
    if not isinstance(term, nodes.FactTerm | nodes.CountTerm):
        yield term
        return
    part = term.sub_block

    def entries(layer: int) -> tuple[tuple[str, ...], tuple[Fraction, ...]]:
        names = tuple(a.name for a in getattr(tables.layers[layer].with_parent(), part))
        if isinstance(term, nodes.CountTerm):
            return names, tuple(Fraction(name in term.alternatives) for name in names)
        return names, tuple(Fraction(tables.fact(part, term.attribute, layer, name)) for name in names)

    for (names, values), layers in groupby(term.layers, entries):
        if part == "attention":
            cells = tuple((value,) for value in values)
            yield nodes.TableTerm(attention=names, ffn=(), values=cells, layers=tuple(layers))
        else:
            yield nodes.TableTerm(attention=(), ffn=names, values=(values,), layers=tuple(layers))


class NormalForm(Residuals):
    """Pool of formulas. `formulas`: numbers of the problem's; `runs`: of those that order positions in runs of dropped layers."""

    def __init__(self, columns: Columns, formulas: Sequence[Formula] = ()) -> None:
        super().__init__(columns)
        self._bits = cache(self._bits_of)
        self.runs = tuple(self._consecutive()) if columns.period else ()
        self.formulas = tuple(self.formula(formula.logic) for formula in formulas)

    def formula(self, logic: nodes.Logic) -> int:
        """Return the number in the pool of a formula that has no facts left (`with_facts`)."""
        match logic:
            case nodes.Is(layer=layer, sub_block=sub_block, alternatives=names):
                bits = self._bits(layer, sub_block)
                return self.atom(layer, sum(bits.get(name, 0) for name in {*names}))
            case nodes.Not(operand=operand):
                return self.opposite(self.formula(operand))
            case nodes.And(operands=operands):
                return self.every(map(self.formula, operands))
            case nodes.Or(operands=operands):
                return self.some(map(self.formula, operands))
            case nodes.Implies(condition=condition, consequence=consequence):
                return self.some([self.opposite(self.formula(condition)), self.formula(consequence)])
            case nodes.Runs(statements=statements, at_least=least, at_most=most):
                parts = [*map(self.formula, statements)]
                later = (self.every([here, self.opposite(before)]) for before, here in pairwise(parts))
                return self._counted([*parts[:1], *later], least, most)
            case nodes.Longest(statements=statements, at_least=least, at_most=most):
                return self._longest([*map(self.formula, statements)], least, most)
            case nodes.Distinct(taken=taken, at_least=least, at_most=most):
                return self._counted(self._values(taken), least, most)
            case nodes.Same(left=left, right=right, sub_blocks=parts):
                ways = list[int]()
                for own, others in ((self._bits(left, part), self._bits(right, part)) for part in parts):
                    both = sorted(own.keys() & others.keys())
                    ways.append(self.atom(left, sum(own[name] for name in both)))
                    ways += [
                        self.some([self.opposite(self.atom(left, own[n])), self.atom(right, others[n])])
                        for n in both
                    ]
                return self.every(ways)
            case nodes.Compare():
                return self._compared(logic)
            case _:
                assert_never(logic)

    def _bits_of(self, layer: int, part: Site) -> dict[str, int]:
        """Return for each alternative of a sub-block, by name, the layer's columns that have it, as bits."""
        return places_by(getattr(choice, part) for choice in self.columns.of_layer(layer))

    def _counted(self, parts: Sequence[int], least: int, most: int | None) -> int:
        return self.count(parts, least, len(parts) if most is None else most)

    def _longest(self, parts: Sequence[int], least: int, most: int | None) -> int:
        """Return the formula that the longest run of parts that hold is from `least` to `most`."""

        def windows(width: int) -> list[Sequence[int]]:
            return [parts[i : i + width] for i in range(len(parts) - width + 1)]

        lower = TRUE if least <= 0 else self.some(map(self.every, windows(least)))
        if most is None:
            return lower
        shorter = [self.some(map(self.opposite, window)) for window in windows(most + 1)]
        return self.every([lower, *shorter]) if most >= 0 else FALSE

    def _values(self, taken: Sequence[nodes.Taken]) -> list[int]:
        """Return one formula for each value in `taken`: some layer takes it."""
        found: dict[str, list[int]] = {}
        for each in taken:
            if not each.layers:
                found.setdefault(each.values[0][0], []).append(TRUE)
            for layer in each.layers:
                masks = places_by(taken_by(each, choice) for choice in self.columns.of_layer(layer))
                for value, mask in masks.items():
                    found.setdefault(value, []).append(self.atom(layer, mask))
        return [self.some(parts) for _, parts in sorted(found.items())]

    def _compared(self, logic: nodes.Compare) -> int:
        """Return the number of a comparison of a sum of tables, scaled to whole numbers."""
        tables = [(w.coefficient, w.term) for w in logic.left.terms if isinstance(w.term, nodes.TableTerm)]
        cells = [factor * cell for factor, table in tables for row in table.values for cell in row]
        scale = math.lcm(*(cell.denominator for cell in cells))
        whole: dict[int, list[int]] = {}
        for factor, table in tables:
            numbers = [[int(factor * scale * cell) for cell in row] for row in table.values]
            rows, places = ({n: i for i, n in enumerate(names)} for names in (table.attention, table.ffn))
            for layer in table.layers:
                choices = self.columns.of_layer(layer)
                known = whole.setdefault(layer, [0] * len(choices))
                for i, choice in enumerate(layers_of_child(choices)):
                    row = numbers[rows[choice.attention] if rows else 0]
                    known[i] += row[places[choice.ffn] if places else 0]
        bound = (logic.bound - logic.left.constant) * scale
        least, most = (sum(map(end, whole.values())) for end in (min, max))
        match logic.op:
            case "<=" | "<":
                most = math.floor(bound) if logic.op == "<=" else math.ceil(bound) - 1
            case ">=" | ">":
                least = math.ceil(bound) if logic.op == ">=" else math.floor(bound) + 1
            case "==":
                least, most = math.ceil(bound), math.floor(bound)
        return self.sum_within(whole, least, most)

    def _consecutive(self) -> Iterator[int]:
        """Yield a formula for each two adjacent layers: position k follows k - 1; 1 follows a kept layer or a whole period."""
        columns = self.columns
        for layer, (here, after) in enumerate(pairwise(map(columns.span, range(columns.layers)))):
            follows, own = columns.position[here] % columns.period + 1, columns.position[after]
            positions = np.unique(own[own > 0]).tolist()
            led = (self.atom(layer, bits_of(follows == position)) for position in positions)
            free = (self.atom(layer + 1, bits_of(own != position)) for position in positions)
            yield self.every(map(self.some, zip(led, free, strict=True)))
