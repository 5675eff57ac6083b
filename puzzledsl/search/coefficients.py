"""Linear expressions as one exact integer a column: `value = constant + unit * sum of the chosen columns' integers`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import assert_never

from puzzledsl.ir.alternatives import SubBlock
from puzzledsl.ir.metrics import linear_metrics
from puzzledsl.ir.nodes import CountTerm, FactTerm, Linear, MetricTerm, ParamsTerm, ScoreTerm, TableTerm, Term
from puzzledsl.ir.tables import LayerAssignment
from puzzledsl.search.tables import Tables, decimal

Key = tuple[int, LayerAssignment]
ATTENTION: SubBlock = "attention"
FFN: SubBlock = "ffn"


@dataclass(frozen=True, slots=True)
class Vector:
    """`constant + unit * sum(values[chosen])`, exactly. `unit` > 0."""

    values: list[int]
    unit: Fraction = Fraction(1)
    constant: Fraction = Fraction(0)

    def negated(self) -> Vector:
        """Minus this."""
        return Vector([-v for v in self.values], self.unit, -self.constant)

    def total(self) -> Fraction:
        """The value when every key is chosen: of a model, when the keys are its layers."""
        return self.constant + self.unit * sum(self.values)


class Coefficients:
    """Vectors over fixed keys: (layer, choice) pairs."""

    def __init__(self, tables: Tables, keys: Sequence[Key]) -> None:
        self.tables = tables
        self.keys = keys
        self._known: dict[tuple[Term, int | None], Vector] = {}

    def linear(self, linear: Linear, batches: Mapping[str, int]) -> Vector:
        """A linear expression (without throughput) over one common unit, divided by the greatest common divisor."""
        vectors = [(w.coefficient, self.term(w.term, batches)) for w in linear.terms]
        constant = sum((c * v.constant for c, v in vectors), linear.constant)
        units = [c * v.unit for c, v in vectors if c]
        if not units:
            return Vector([0] * len(self.keys), Fraction(1), constant)
        unit = Fraction(math.gcd(*(u.numerator for u in units)), math.lcm(*(u.denominator for u in units)))
        factors = [int(c * v.unit / unit) for c, v in vectors]
        columns = zip(*(v.values for _, v in vectors), strict=True)
        values = [sum(f * x for f, x in zip(factors, column, strict=True)) for column in columns]
        divisor = math.gcd(*values) or 1
        return Vector([v // divisor for v in values], unit * divisor, constant)

    def term(self, term: Term, batches: Mapping[str, int]) -> Vector:
        """One term in base units. Raises DiagnosticError for a choice that is not scored."""
        batch = batches[term.scenario] if isinstance(term, MetricTerm) else None
        if (term, batch) not in self._known:
            self._known[term, batch] = self._term(term, batch)
        return self._known[term, batch]

    def _term(self, term: Term, batch: int | None) -> Vector:
        match term:
            case MetricTerm(scenario=scenario, metric=metric):
                assert batch is not None
                return self._metric(scenario, metric, batch)
            case ScoreTerm(score=score):
                return self._score(score)
            case ParamsTerm():
                params = [self.tables.params(layer, choice) for layer, choice in self.keys]
                return Vector(params, constant=Fraction(self.tables.costs.params_fixed))
            case FactTerm(sub_block=part, attribute=attribute, layers=layers):
                inside = frozenset(layers)
                fact = self.tables.fact
                return Vector(
                    [fact(part, attribute, i, getattr(c, part)) if i in inside else 0 for i, c in self.keys]
                )
            case CountTerm(sub_block=part, alternatives=alternatives, layers=layers):
                inside, wanted = frozenset(layers), frozenset(alternatives)
                return Vector([int(i in inside and getattr(c, part) in wanted) for i, c in self.keys])
            case TableTerm(layers=layers):
                inside, zero = frozenset(layers), Fraction(0)
                return _whole([term.value(c.attention, c.ffn) if i in inside else zero for i, c in self.keys])
            case _:
                assert_never(term)

    def _score(self, score: str) -> Vector:
        """A score table, without its pairwise terms. Sub-blocks' decimals are read once a layer, not once a pair."""
        offset = decimal(self.tables.scores[score].offset)
        if self.tables.scores[score].unit == "block":
            whole = _whole([self.tables.score(score, layer, choice) for layer, choice in self.keys])
            return Vector(whole.values, whole.unit, offset)
        known: dict[tuple[int, SubBlock, str], Fraction] = {}
        parts: list[Fraction] = []
        for layer, choice in self.keys:
            for key in ((layer, ATTENTION, choice.attention), (layer, FFN, choice.ffn)):
                if key not in known:
                    known[key] = self.tables.sub_block_score(score, *key)
                parts.append(known[key])
        vector = _whole(parts)
        pairs = zip(vector.values[::2], vector.values[1::2], strict=True)
        return Vector([attention + ffn for attention, ffn in pairs], vector.unit, offset)

    def _metric(self, scenario: str, metric: str, batch: int) -> Vector:
        costs = self.tables.at(scenario, batch)
        linear = linear_metrics(costs)[metric]
        measure, unit = linear.of, linear.unit
        parts = [
            tuple(
                {name: measure(cost) for name, cost in table[layer].items()}
                for table in (costs.attention, costs.ffn)
            )
            for layer in range(len(costs.attention))
        ]
        pairs = [{name: measure(cost) for name, cost in table.items()} for table in costs.pairs]
        values = []
        for layer, choice in self.keys:
            pair = pairs[layer].get(f"{choice.attention}/{choice.ffn}") if pairs else None
            if pair is None:
                attention, ffn = parts[layer]
                pair = attention[choice.attention] + ffn[choice.ffn]
            values.append(pair)
        return Vector(values, unit, unit * (measure(costs.fixed) + linear.constant))


def _whole(numbers: list[Fraction]) -> Vector:
    """Fractions over their common denominator."""
    scale = math.lcm(*{n.denominator for n in numbers})
    return Vector([n.numerator * (scale // n.denominator) for n in numbers], Fraction(1, scale))
