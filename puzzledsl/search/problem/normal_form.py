"""Normal form of requirements on layers: however they are written, equal meanings become equal nodes of a pool of formulas."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import pairwise
from typing import assert_never

from puzzledsl.alternatives.alternative import SubBlock
from puzzledsl.ir.logic import layers_of_term
from puzzledsl.ir.nodes import (
    And,
    Cardinality,
    Compare,
    CountTerm,
    Distinct,
    Implies,
    Is,
    Logic,
    Longest,
    Not,
    Or,
    Runs,
    Same,
    TableTerm,
    Taken,
    Term,
)
from puzzledsl.search.problem.columns import Columns, Pairs
from puzzledsl.search.problem.residuals import FALSE, TRUE, Residuals


class NormalForm(Residuals):
    """Pool of formulas that reads those of the IR, with facts looked up (see `formulas.with_facts`)."""

    def __init__(self, columns: Columns) -> None:
        super().__init__(columns)
        self._bits = [_bits_of(columns, layer) for layer in range(columns.layers)]

    def formula(self, logic: Logic) -> int:
        """Return the number of a formula."""
        match logic:
            case Is(layer=layer, sub_block=sub_block, alternatives=names):
                bits = self._bits[layer][sub_block]
                mask = 0
                for name in names:
                    mask |= bits.get(name, 0)
                return self.atom(layer, mask)
            case Not(operand=operand):
                return self.opposite(self.formula(operand))
            case And(operands=operands):
                return self.every(map(self.formula, operands))
            case Or(operands=operands):
                return self.some(map(self.formula, operands))
            case Implies(condition=condition, consequence=consequence):
                return self.some([self.opposite(self.formula(condition)), self.formula(consequence)])
            case Cardinality(operands=operands, at_least=least, at_most=most):
                return self._counted([*map(self.formula, operands)], least, most)
            case Runs(statements=statements, at_least=least, at_most=most):
                parts = [*map(self.formula, statements)]
                later = (self.every([here, self.opposite(before)]) for before, here in pairwise(parts))
                return self._counted([*parts[:1], *later], least, most)
            case Longest(statements=statements, at_least=least, at_most=most):
                return self._longest([*map(self.formula, statements)], least, most)
            case Distinct(taken=taken, at_least=least, at_most=most):
                return self._counted(self._values(taken), least, most)
            case Same(left=left, right=right, sub_blocks=parts):
                return self.every(way for part in parts for way in self._same(left, right, part))
            case Compare():
                return self._compared(logic)
            case _:
                assert_never(logic)

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

    def _values(self, taken: Sequence[Taken]) -> list[int]:
        """Return one formula for each value: some layer takes it."""
        found: dict[str, list[int]] = {}
        for each in taken:
            if not each.layers:
                found.setdefault(each.values[0][0], []).append(TRUE)
            for layer in each.layers:
                masks: dict[str, int] = {}
                for bit, choice in enumerate(self.columns.of_layer(layer)):
                    value = each.value(choice.attention, choice.ffn)
                    masks[value] = masks.get(value, 0) | 1 << bit
                for value, mask in masks.items():
                    found.setdefault(value, []).append(self.atom(layer, mask))
        return [self.some(parts) for _, parts in sorted(found.items())]

    def _same(self, left: int, right: int, part: SubBlock) -> Iterator[int]:
        """Yield formulas that together say that two layers choose the same for a sub-block."""
        own, others = self._bits[left][part], self._bits[right][part]
        yield self.atom(left, sum(bits for name, bits in own.items() if name in others))
        for name in sorted(own.keys() & others.keys()):
            yield self.some([self.opposite(self.atom(left, own[name])), self.atom(right, others[name])])

    def _compared(self, logic: Compare) -> int:
        """Return a comparison of a sum of counts and tables as a sum of whole numbers."""
        values: dict[int, list[Fraction]] = {}
        for weighted in logic.left.terms:
            for layer in layers_of_term(weighted.term):
                numbers = _numbers(weighted.term, self.columns.of_layer(layer))
                added = [weighted.coefficient * number for number in numbers]
                known = values.get(layer)
                values[layer] = added if known is None else [a + b for a, b in zip(known, added, strict=True)]
        scale = math.lcm(*(n.denominator for numbers in values.values() for n in numbers))
        whole = {layer: [int(n * scale) for n in numbers] for layer, numbers in values.items()}
        bound = (logic.bound - logic.left.constant) * scale
        low = sum(min(numbers) for numbers in whole.values())
        high = sum(max(numbers) for numbers in whole.values())
        match logic.op:
            case "<=":
                return self.sum_within(whole, low, math.floor(bound))
            case "<":
                return self.sum_within(whole, low, math.ceil(bound) - 1)
            case ">=":
                return self.sum_within(whole, math.ceil(bound), high)
            case ">":
                return self.sum_within(whole, math.floor(bound) + 1, high)
            case "==":
                return self.sum_within(whole, math.ceil(bound), math.floor(bound))


def _numbers(term: Term, choices: Pairs) -> list[Fraction]:
    """Return what each of a layer's choices adds to a count or a table. Facts are looked up before."""
    match term:
        case CountTerm(sub_block=part, alternatives=names):
            return [Fraction(getattr(choice, part) in names) for choice in choices]
        case TableTerm():
            return [term.value(choice.attention, choice.ffn) for choice in choices]
    raise ValueError("a term that is no count and no table")


def _bits_of(columns: Columns, layer: int) -> dict[str, dict[str, int]]:
    """Return, for each sub-block and alternative, the bits of the layer's columns that have it."""
    found: dict[str, dict[str, int]] = {"attention": {}, "ffn": {}}
    for place, choice in enumerate(columns.of_layer(layer)):
        for part, name in (("attention", choice.attention), ("ffn", choice.ffn)):
            found[part][name] = found[part].get(name, 0) | 1 << place
    return found
