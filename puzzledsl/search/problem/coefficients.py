"""Linear expressions as exact integers by column: `value = constant + unit * sum of the chosen columns' integers`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, cached_property, partial
from itertools import accumulate, chain, product
from typing import Any, TypeVar, assert_never

import numpy as np
from numpy.typing import NDArray

from puzzledsl.alternatives.alternative import ENDS, SUB_BLOCKS
from puzzledsl.costs.metrics import costs_of_layer, linear_metrics, room_of
from puzzledsl.ir.layer_runs import Run
from puzzledsl.ir.nodes import CountTerm, FactTerm, Linear, MetricTerm, ParamsTerm, ScoreTerm, TableTerm, Term
from puzzledsl.ir.tables import Assignment, Cost, EndsAssignment, LayerAssignment, ScenarioCosts
from puzzledsl.search.problem.box import Box
from puzzledsl.search.problem.columns import Columns, Ints, Pairs
from puzzledsl.search.problem.normal_form import as_tables
from puzzledsl.search.tables import Tables, decimal

Whole = NDArray[Any]  # int64, or object (Python integers) where int64 might overflow
Names = tuple[tuple[str, ...], ...]  # alternatives of a layer's sub-blocks, in the order of SUB_BLOCKS
Entry = TypeVar("Entry")
PAIR = 2  # the place of pairs among a layer's sites, after its two sub-blocks
SAFE = 2**61  # sums over one column per layer stay below this in int64
MOST_DIGITS = 15  # different decimals of up to 15 digits are different floats, so one that reads as a float is its shortest


@dataclass(frozen=True, slots=True, eq=False)
class Vector:
    """The exact linear function `constant + unit * sum(values[chosen])`, with `unit` > 0."""

    values: Whole
    unit: Fraction = Fraction(1)
    constant: Fraction = Fraction(0)

    def negated(self) -> Vector:
        """Return the function times -1."""
        return Vector(-self.values, self.unit, -self.constant)

    def total(self) -> Fraction:
        """Return the value if every column is chosen; with one column per layer, the value of that model."""
        return self.constant + self.unit * int(sum(self.values.tolist()))


class Coefficients:
    """Linear expressions over columns: all combinations of a layer's alternatives, in the order of the space.

    `offered[layer]`: names of the alternatives of each sub-block; behind the last layer, where they have a choice, of the model's
    ends, embedding and head. `longest`: layers in the longest measured run of dropped layers
    of each score that has runs.
    """

    def __init__(self, tables: Tables, offered: Sequence[Names], longest: Sequence[int] = ()) -> None:
        self.tables, self.offered = tables, offered
        self.layers = len(tables.layers)
        known: dict[Names, Pairs] = {}
        for names in offered[: self.layers]:
            if names not in known:
                known[names] = tuple(LayerAssignment(attention=a, ffn=f) for a, f in product(*names))
        of_ends = [
            tuple(EndsAssignment(embedding=e, head=h) for e, h in product(*n)) for n in offered[self.layers :]
        ]
        period = math.lcm(*longest) if longest else 0  # all counts restart after so many positions
        columns = Columns.of((*(known[names] for names in offered[: self.layers]), *of_ends))
        self.columns = columns.with_positions(period, tables.dropped()) if period else columns
        self._known: dict[tuple[Term, int | None], Vector] = {}
        self._alike: dict[tuple[int, str], tuple[list[int], Ints]] = {}

    def bound(self, linear: Linear, box: Box, *, most: bool) -> Vector:
        """Return a lower, or if `most` an upper, bound of an expression without throughput over a box: each metric at one end."""
        parts: list[tuple[Fraction, Vector]] = []
        for weighted in linear.terms:
            term, factor, batch = weighted.term, weighted.coefficient, None
            if isinstance(term, MetricTerm):
                batch = box.of(term.scenario)[(factor > 0) == most]
            parts.append((factor, self.term(term, batch)))
        constant = sum((c * v.constant for c, v in parts), linear.constant)
        units = [c * v.unit for c, v in parts if c]
        if not units:
            return Vector(np.zeros(len(self.columns), dtype=np.int64), Fraction(1), constant)
        unit = Fraction(math.gcd(*(u.numerator for u in units)), math.lcm(*(u.denominator for u in units)))
        factors = [int(c * v.unit / unit) for c, v in parts]
        values = (
            parts[0][1].values
            if factors == [1]
            else combined([(f, v.values) for f, (_, v) in zip(factors, parts, strict=True)])
        )
        divisor = int(np.gcd.reduce(values)) or 1
        return Vector(values // divisor if divisor > 1 else values, unit * divisor, constant)

    def term(self, term: Term, batch: int | None) -> Vector:
        """Return one term in base units; `batch` for a metric. Raises DiagnosticError for a choice that is not scored."""
        if isinstance(term, MetricTerm) and term.scenario in self.tables.profiles:
            return self._term(term, batch)  # fast, and a profile has too many batches to cache
        if (term, batch) not in self._known:
            self._known[term, batch] = self._term(term, batch)
        return self._known[term, batch]

    def _term(self, term: Term, batch: int | None) -> Vector:
        costs = self.tables.costs
        match term:
            case MetricTerm(scenario=scenario, metric=metric):
                assert batch is not None
                return self.metric(scenario, batch, metric)
            case ScoreTerm(score=score):
                return self._score(score)
            case ParamsTerm():
                params = costs.params_attention, costs.params_ffn
                parts = [
                    self._each(site, lambda name, own: own.get(name, 0), [*params[site], *self._no_table])
                    for site in (0, 1)
                ]
                values = self._with_ends(_added(parts), partial(self.tables.params, self.layers))
                return Vector(values, constant=Fraction(costs.params_fixed))
            case FactTerm() | CountTerm() | TableTerm():
                return self._tables(as_tables(self.tables, term))
            case _:
                assert_never(term)

    @cached_property
    def _no_table(self) -> list[dict[str, Any]]:
        """The table of the ends in numbers that only layers have: none, or an empty one."""
        return [{} for _ in self.offered[self.layers :]]

    def _with_ends(self, values: Whole, of: Callable[[EndsAssignment], int]) -> Whole:
        """Add the numbers of the ends, which their types decide together, to those of the layers."""
        for place in range(self.layers, self.columns.layers):
            here = self.columns.of_layer(place)
            numbers = [0] * len(self.columns)
            numbers[self.columns.span(place)] = [
                of(choice) for choice in here if isinstance(choice, EndsAssignment)
            ]
            values = combined([(1, values), (1, _whole(numbers))])
        return values

    @cached_property
    def _sites(self) -> list[tuple[Sequence[Sequence[Any]], Ints]]:
        """Alternatives of each layer, and the place of each column's among them: by sub-block, then of pairs."""
        columns = self.columns
        attention, ffn = np.divmod(
            columns.place, np.array([len(f) for _, f in self.offered])[columns.layer_of]
        )
        sub_blocks = ([names[site] for names in self.offered] for site in (0, 1))
        return [*zip(sub_blocks, (attention, ffn), strict=True), (columns.pairs, columns.place)]

    def _each(
        self, site: int, of: Callable[..., Entry], *tables: Sequence[Any], profile: str = ""
    ) -> tuple[list[Entry], Ints]:
        """Return `of(alternative, *table)` of a site's alternatives, and each column's place among them; equal layers share both.

        `tables`: entries by layer. On a `profile`, the same layers agree at every batch.
        """
        offered, own = self._sites[site]
        layers, places = self._alike.get((site, profile), ([], own))
        if not layers:
            keys = [*zip(*(map(id, entries) for entries in (offered, *tables)), strict=True)]
            last = dict(zip(keys, range(len(keys)), strict=True))
            layers = [*last.values()]
            sizes = accumulate((len(offered[layer]) for layer in layers), initial=0)
            first = dict(zip(last, sizes, strict=False))
            places = np.array([first[key] for key in keys])[self.columns.layer_of] + own
            if profile:
                self._alike[site, profile] = layers, places
        rows = [(offered[layer], [table[layer] for table in tables]) for layer in layers]
        return [of(alternative, *entries) for names, entries in rows for alternative in names], places

    def _tables(self, tables: Iterable[Term]) -> Vector:
        """Return the sum of tables of different layers: of each column its entry, and 0 outside of all layers."""
        at = {layer: table for table in tables if isinstance(table, TableTerm) for layer in table.layers}

        def entry(choice: Assignment, table: TableTerm | None) -> Fraction:
            if table is None or isinstance(choice, EndsAssignment):
                return Fraction(0)
            value: Fraction = table.value(choice.attention, choice.ffn)
            return value

        numbers, places = self._each(PAIR, entry, [*map(at.get, range(self.columns.layers))])
        scale = math.lcm(*{n.denominator for n in numbers})
        return Vector(_added([([int(n * scale) for n in numbers], places)]), Fraction(1, scale))

    def metric(self, scenario: str, batch: int, metric: str) -> Vector:
        """Return a metric of a scenario at a batch. Raises KeyError for a metric that is not linear."""
        costs = self.tables.at(scenario, batch)
        linear = linear_metrics(costs)[metric]
        constant = linear.unit * (linear.of(costs.fixed) + linear.constant)
        return Vector(self.measured(linear.of, costs), linear.unit, constant)

    def room(self, scenario: str, batch: int) -> tuple[Vector, int] | None:
        """Return (memory that a model takes, memory available) for an `auto` batch, in one unit; None if the batch is given."""
        costs = self.tables.at(scenario, batch)
        if (room := room_of(costs)) is None:
            return None
        return Vector(self.measured(room.of, costs), constant=Fraction(room.of(costs.fixed))), room.limit

    def measured(self, of: Callable[..., int], *costs: ScenarioCosts) -> Whole:
        """Return a number of each column: of its pair if that is listed, else of its two sub-blocks."""

        def of_ends(choice: EndsAssignment) -> int:
            return of(*[each.ends[choice.name] for each in costs])

        if costs[0].pairs:

            def of_pair(choice: Assignment, layer: int) -> int:
                if isinstance(choice, EndsAssignment):
                    return 0
                return sum(map(of, costs_of_layer(costs[0], layer, choice)))

            pairs = _added([self._each(PAIR, of_pair, [*range(self.columns.layers)])])
            return self._with_ends(pairs, of_ends)

        def entry(name: str, *tables: Mapping[str, Cost]) -> int:
            return of(*[table[name] for table in tables]) if tables[0] else 0

        tables = [[(*getattr(c, part), *self._no_table) for c in costs] for part in SUB_BLOCKS]
        profile = costs[0].scenario if costs[0].scenario in self.tables.profiles else ""
        added = _added([self._each(site, entry, *tables[site], profile=profile) for site in (0, 1)])
        return self._with_ends(added, of_ends)

    def _score(self, score: str) -> Vector:
        """Return a score table. Sub-block scores are converted once per layer, not per pair."""
        tables, layers = self.tables, [*range(self.columns.layers)]
        of_pairs = tables.scores[score].unit == "block"

        def of_pair(choice: Assignment, layer: int) -> float:
            if isinstance(choice, EndsAssignment):
                return 0.0
            return tables.entry(score, "pairs", layer, f"{choice.attention}/{choice.ffn}")

        def entry(site: int, name: str, layer: int) -> float:
            if layer >= self.layers:
                return tables.end_entry(score, ENDS[site], name)
            return 0.0 if of_pairs else tables.entry(score, SUB_BLOCKS[site], layer, name)

        parts = [self._each(PAIR, of_pair, layers)] if of_pairs else []
        if not of_pairs or self.columns.layers > self.layers:
            parts += [self._each(site, partial(entry, site), layers) for site in (0, 1)]
        measured = tables.runs.get(score, {}) if self.columns.period else {}
        numbers, scale = _decimals([*chain.from_iterable(flat for flat, _ in parts), *measured.values()])
        firsts = accumulate((len(flat) for flat, _ in parts), initial=0)
        values = combined([(1, numbers[first + own]) for first, (_, own) in zip(firsts, parts, strict=False)])
        if measured:
            runs = dict(zip(measured, numbers[-len(measured) :].tolist(), strict=True))
            values = self._added_by_runs(values.astype(object), runs)
        return Vector(values, Fraction(1, scale), decimal(tables.scores[score].offset))

    def _added_by_runs(self, values: Whole, measured: Mapping[Run, int]) -> Whole:
        """Replace dropped layers' scores by what each adds to its run; one beyond a measured part adds its own."""
        columns, longest = self.columns, max(length for _, length in measured)
        first = (columns.position == 1).nonzero()[0]
        own = dict(zip(columns.layer_of[first].tolist(), values[first].tolist(), strict=True))

        @cache
        def total(first: int, length: int) -> int:
            if length == 0:
                return 0
            known = measured.get((first, length))
            return total(first, length - 1) + own[first + length - 1] if known is None else known

        for column in columns.position.nonzero()[0].tolist():
            length = (int(columns.position[column]) - 1) % longest + 1
            first_layer = int(columns.layer_of[column]) - length + 1
            values[column] = total(first_layer, length) - total(first_layer, length - 1)
        return combined([(1, values)])


def _whole(numbers: list[int]) -> Whole:
    return np.array(numbers, dtype=np.int64 if max(map(abs, numbers), default=0) < SAFE else object)


def _added(parts: Sequence[tuple[list[int], Ints]]) -> Whole:
    """Return the sum of each column's numbers: for each part, all numbers and the place of each column's among them."""
    return combined([(1, _whole(numbers)[places]) for numbers, places in parts])


def combined(parts: Sequence[tuple[int, Whole]]) -> Whole:
    """Return the sum of factors times values, of int64, or of Python integers if a sum over columns might overflow."""
    ends = [max(values.max(initial=0), -values.min(initial=0)) for _, values in parts]
    sized = [(abs(f) * int(end), f, values) for end, (f, values) in zip(ends, parts, strict=True)]
    kind = np.int64 if sum(size for size, _, _ in sized) < SAFE // max(len(parts[0][1]), 1) else object
    total = np.zeros(len(parts[0][1]), dtype=kind)
    for size, factor, values in sized:
        if size:  # a factor beyond int64 would overflow even on zeros
            total += values.astype(kind, copy=False) * factor
    return total


def _decimals(numbers: list[float]) -> tuple[Whole, int]:
    """Return floats as integers over a common denominator: their shortest decimal representations."""
    floats = np.array(numbers, dtype=np.float64)
    largest = float(np.abs(floats).max(initial=0.0))
    for places in range(MOST_DIGITS + 1):
        scale = 10**places
        if largest * scale >= 10**MOST_DIGITS:
            break
        whole = np.rint(floats * scale)
        if (whole / scale == floats).all():
            return whole.astype(np.int64), scale
    exact = [decimal(number) for number in numbers]
    scale = math.lcm(*(number.denominator for number in exact))
    return _whole([int(number * scale) for number in exact]), scale
