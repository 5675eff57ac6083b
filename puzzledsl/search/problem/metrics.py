"""Exact values of expressions: of a child, in fractions (the verifier has another evaluation), and by column, as integers.

By column, `value = constant + unit * sum of the chosen columns' integers`; over a box of batch sizes, these are bounds.

Branch and bound over boxes (Land & Doig 1960) finds the best batches without trying each. The relaxed problem of a box bounds
all models at all batches inside; a box that may contain a better model is split.

Let x(b) be the exact time of one sub-block in a prefill or decode step of b sequences (`costs.roofline`), and c(b) = ceil(x(b))
the nanoseconds in the tables. With n = b tokens (or b * prompt), x is the sum of

    max(P * share(n) * bytes / BW, 2 P n / F)            matrices; share(n) = 1 - (1 - k / E)^n of a mixture's experts, else 1
    b * constant                                          attention, states
    constant + n * constant                               overhead and the exchange between GPUs

Each term does not decrease with b, and divided by b does not increase (`costs.memory` shows it of the share); max and +
preserve both properties, so x has them, too. Hence for low <= b <= high

    c(low)              <=  c(b)      <=  c(high)
    (c(high) - 1) / high <  c(b) / b  <  (c(low) + 1) / low

since x(high) > c(high) - 1 and c(b) < x(b) + 1 <= b x(low) / low + 1. A sub-block that takes no time takes none at any batch.
Sums over layers keep all of this, so that `throughput = batch * output / latency` is bounded where latency / batch is.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache, cached_property, partial
from itertools import chain, count, product
from typing import Any, Self, assert_never

import numpy as np
from numpy.typing import NDArray

from puzzledsl.alternatives.alternative import ENDS, SUB_BLOCKS, EndName, SubBlock
from puzzledsl.costs.metrics import costs_of_layer, linear_metrics, metrics_of, room_of
from puzzledsl.ir import nodes
from puzzledsl.ir.facts import Run, counted_runs
from puzzledsl.ir.logic import compared, holds
from puzzledsl.ir.metric_records import METRICS
from puzzledsl.ir.tables import Assignment, Cost, EndsAssignment, LayerAssignment, ScenarioCosts
from puzzledsl.search.problem.columns import Columns, Ints, Pairs
from puzzledsl.search.problem.normal_form import as_tables, with_facts
from puzzledsl.search.tables import Tables, decimal

Layers = Sequence[Assignment]
PAIR = operator.attrgetter("attention", "ffn")


@dataclass(frozen=True, slots=True)
class Child:
    """A choice for every layer, and a batch for every scenario of the search."""

    tables: Tables
    layers: tuple[Assignment, ...]
    batches: Mapping[str, int]

    def parent(self) -> Child:
        """Return the parent at the same batches, under traffic at its own."""
        return Child(self.tables, self.tables.parent, self.tables.of_parent(self.batches))

    def linear(self, linear: nodes.Linear) -> Fraction:
        """Return the value of a linear expression, in base units."""
        return sum((w.coefficient * self.term(w.term) for w in linear.terms), linear.constant)

    def term(self, term: nodes.Term) -> Fraction:
        """Return the value of one term, in base units."""
        tables, layers = self.tables, self.layers
        match term:
            case nodes.MetricTerm(place=scenario, metric=metric):
                return metrics_of(tables.at(scenario, self.batches[scenario]), layers)[metric]
            case nodes.ScoreTerm(score=score):
                measured, runs = tables.runs.get(score, {}), []
                if measured:  # runs of dropped layers count with their measured scores
                    dropped = zip(layers, tables.dropped(), strict=True)
                    runs = counted_runs([choice == gone for choice, gone in dropped], measured)
                inside = {layer for first, length in runs for layer in range(first, first + length)}
                parts = [tables.score(score, i, c) for i, c in enumerate(layers) if i not in inside]
                parts += [decimal(measured[run]) for run in runs]
                return sum(parts, decimal(tables.scores[score].offset))
            case nodes.ParamsTerm():
                return Fraction(tables.costs.params_fixed + sum(map(tables.params, count(), layers)))
            case nodes.FactTerm(sub_block=part, attribute=attribute, layers=where):
                return Fraction(sum(tables.fact(part, attribute, i, getattr(layers[i], part)) for i in where))
            case nodes.CountTerm(sub_block=sub_block, alternatives=alternatives, layers=where):
                return Fraction(sum(getattr(layers[i], sub_block) in alternatives for i in where))
            case nodes.TableTerm(layers=where):
                return sum((term.value(*PAIR(layers[i])) for i in where), Fraction(0))
            case _:
                assert_never(term)

    def bound_of(self, requirement: nodes.LinearRequirement) -> Fraction:
        """Return the right-hand side of a requirement: its bound, or its ratio times the value of `parent()`."""
        relative = requirement.parent_ratio is not None
        return requirement.limit * (self.parent().linear(requirement.left) if relative else 1)

    def meets(self, requirement: nodes.Requirement) -> bool:
        """True if a requirement holds."""
        match requirement:
            case nodes.LinearRequirement():
                value = self.linear(requirement.left)
                return bool(compared((value, value), requirement.op, self.bound_of(requirement)))
            case nodes.LogicRequirement(formula=formula):
                return bool(holds(with_facts(self.tables, formula), dict(enumerate(self.layers))))
            case _:
                assert_never(requirement)

    def is_right(self) -> bool:
        """True if every batch fits and every requirement of the search holds."""
        tables = self.tables
        return all(map(self.fits, tables.scenarios)) and all(map(self.meets, tables.search.requirements))

    def fits(self, scenario: str) -> bool:
        """True if a scenario's batch is given, or is the child's own: the largest that fits; under traffic the least."""
        batch = self.batches[scenario]
        if not self.tables.at(scenario, batch).is_own:
            return True
        return batch == self.tables.largest_batch(scenario, self.layers)


def report(child: Child) -> tuple[dict[str, int], dict[str, Fraction]]:
    """Return scenarios' batches (the child's, else the largest that fits or the first) and other known metrics in base units."""
    tables = child.tables
    batches, metrics = dict(child.batches), {"params": child.term(nodes.ParamsTerm())}
    for name, candidates in sorted(tables.costs.scenarios.items()):
        if not candidates:
            continue
        if name not in batches:
            batches[name] = tables.largest_batch(name, child.layers) or candidates[0].batch
        costs = tables.at(name, batches[name])
        for metric, value in metrics_of(costs, child.layers).items():
            if metric not in costs.unknown and metric != "batch":
                metrics[f"{name.partition('@')[0]}.{metric}"] = value
    for name in sorted(tables.scores):
        metrics[name] = child.term(nodes.ScoreTerm(score=name))
    return batches, metrics


@dataclass(frozen=True, slots=True)
class Box:
    """Intervals of batch sizes, from `low` to `high` inclusive, one for each of `scenarios`."""

    scenarios: tuple[str, ...]
    low: tuple[int, ...]
    high: tuple[int, ...]

    @classmethod
    def at(cls, batches: Mapping[str, int]) -> Self:
        """Return the single box of these batches."""
        return cls(tuple(batches), tuple(batches.values()), tuple(batches.values()))

    @property
    def is_single(self) -> bool:
        """True if every scenario has exactly one batch."""
        return self.low == self.high

    @property
    def lows(self) -> dict[str, int]:
        """The smallest batch of each scenario."""
        return dict(zip(self.scenarios, self.low, strict=True))

    def of(self, scenario: str) -> tuple[int, int]:
        """Return (low, high) of one scenario."""
        place = self.scenarios.index(scenario)
        return self.low[place], self.high[place]

    def has(self, batches: Mapping[str, int]) -> bool:
        """True if the box contains these batches."""
        inside = zip(self.scenarios, self.low, self.high, strict=True)
        return all(low <= batches[name] <= high for name, low, high in inside)

    def halves(self) -> tuple[Box, Box]:
        """Split the box at the geometric mean of the side with the largest ratio high / low. The box must not be single."""
        place = max(range(len(self.low)), key=lambda i: self.high[i] / self.low[i])
        middle = math.isqrt(self.low[place] * self.high[place])

        def put(values: tuple[int, ...], value: int) -> tuple[int, ...]:
            return (*values[:place], value, *values[place + 1 :])

        return replace(self, high=put(self.high, middle)), replace(self, low=put(self.low, middle + 1))


def latency_each(output: int, low: Cost, high: Cost) -> tuple[int, int]:
    """Return (least, most) ns of a sub-block, with least / high <= latency / batch <= most / low at batches from low to high."""
    least = most = 0
    for name, often in METRICS["latency"].of_costs.items():
        at_low, at_high = getattr(low, name), getattr(high, name)
        times = 1 if often == "once" else output
        least, most = least + times * max(at_low, at_high - 1), most + times * (at_low + (at_low > 0))
    return least, most


Whole = NDArray[Any]  # int64, or object (Python integers) where int64 might overflow
Names = tuple[tuple[str, ...], ...]  # alternatives of a layer's sub-blocks, in the order of SUB_BLOCKS
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

    `offered[layer]`: names of the alternatives of each sub-block. If the model's ends have a choice, embedding and head are one
    more layer at the end. `longest`: layers in the longest measured run of dropped layers of each score that has runs.
    """

    def __init__(self, tables: Tables, offered: Sequence[Names], longest: Sequence[int] = ()) -> None:
        self.tables, self.offered = tables, offered
        self.layers = layers = len(tables.layers)
        known: dict[Names, Pairs] = {}
        for names in offered[:layers]:
            if names not in known:
                known[names] = tuple(LayerAssignment(attention=a, ffn=f) for a, f in product(*names))
        ends = [tuple(EndsAssignment(embedding=e, head=h) for e, h in product(*n)) for n in offered[layers:]]
        period = math.lcm(*longest) if longest else 0  # all counts restart after so many positions
        columns = Columns.of((*(known[names] for names in offered[:layers]), *ends))
        self.columns = columns.with_positions(period, tables.dropped()) if period else columns
        self._known: dict[tuple[nodes.Term, int | None], Vector] = {}

    def bound(self, linear: nodes.Linear, box: Box, *, most: bool) -> Vector:
        """Return a lower, or if `most` an upper, bound of an expression without throughput over a box: each metric at one end."""
        parts: list[tuple[Fraction, Vector]] = []
        for weighted in linear.terms:
            term, factor, batch = weighted.term, weighted.coefficient, None
            if isinstance(term, nodes.MetricTerm):
                batch = box.of(term.place)[(factor > 0) == most]
            parts.append((factor, self.term(term, batch)))
        constant = sum((c * v.constant for c, v in parts), linear.constant)
        units = [c * v.unit for c, v in parts if c]
        if not units:
            return Vector(np.zeros(len(self.columns), dtype=np.int64), Fraction(1), constant)
        unit = Fraction(math.gcd(*(u.numerator for u in units)), math.lcm(*(u.denominator for u in units)))
        factors = [int(c * v.unit / unit) for c, v in parts]
        sized = [(factor, vector.values) for factor, (_, vector) in zip(factors, parts, strict=True)]
        values = sized[0][1] if factors == [1] else combined(sized)
        divisor = int(np.gcd.reduce(values)) or 1
        return Vector(values // divisor if divisor > 1 else values, unit * divisor, constant)

    def term(self, term: nodes.Term, batch: int | None) -> Vector:
        """Return one term in base units; `batch` for a metric. Raises DiagnosticError for a choice that is not scored."""
        if isinstance(term, nodes.MetricTerm) and term.scenario in self.tables.profiles:
            return self._term(term, batch)  # fast, and a profile has too many batches to cache
        if (term, batch) not in self._known:
            self._known[term, batch] = self._term(term, batch)
        return self._known[term, batch]

    def _term(self, term: nodes.Term, batch: int | None) -> Vector:
        costs = self.tables.costs
        match term:
            case nodes.MetricTerm(place=scenario, metric=metric):
                assert batch is not None
                return self.metric(scenario, batch, metric)
            case nodes.ScoreTerm(score=score):
                return self._score(score)
            case nodes.ParamsTerm():
                ends = partial(self.tables.params, self.layers)
                values = self._of_pairs(_params, ends, costs.params_attention, costs.params_ffn)
                return Vector(values, constant=Fraction(costs.params_fixed))
            case nodes.FactTerm() | nodes.CountTerm() | nodes.TableTerm():
                return self._tables(as_tables(self.tables, term))
            case _:
                assert_never(term)

    @cached_property
    def _places(self) -> Ints:
        """Place of each column among the pairs of all layers."""
        first = np.cumsum([0, *map(len, self.columns.pairs)])
        return np.asarray(first[self.columns.layer_of] + self.columns.place)

    def _of_pairs(
        self, of: Callable[..., Whole], ends: Callable[[EndsAssignment], int], *tables: Sequence[Any]
    ) -> Whole:
        """Return a number for each column: `of(names, *entries)` gives those of a layer's pairs, `ends(choice)` of the ends.

        `tables`: entries by layer. Layers with the same names and entries share their numbers.
        """
        known, found = dict[tuple[int, ...], Whole](), list[Whole]()
        for names, *entries in zip(self.offered[: self.layers], *tables, strict=True):
            key = tuple(map(id, (names, *entries)))
            if key not in known:
                known[key] = of(names, *entries)
            found.append(known[key])
        choices = chain.from_iterable(self.columns.pairs[self.layers :])
        found.append(_whole([ends(choice) for choice in choices if isinstance(choice, EndsAssignment)]))
        return combined([(1, np.concatenate(found)[self._places])])

    def _tables(self, tables: Iterable[nodes.Term]) -> Vector:
        """Return the sum of tables of different layers: of each column its layer's entry, 0 in layers without a table."""
        found = [table for table in tables if isinstance(table, nodes.TableTerm)]
        scale = math.lcm(*{cell.denominator for table in found for row in table.values for cell in row})
        at = {layer: table for table in found for layer in table.layers}

        def entries(names: Names, table: nodes.TableTerm | None) -> Whole:
            pairs = product(*names)
            return _whole([0 if table is None else int(table.value(*pair) * scale) for pair in pairs])

        values = self._of_pairs(entries, lambda _: 0, [*map(at.get, range(self.layers))])
        return Vector(values, Fraction(1, scale))

    def metric(self, scenario: str, batch: int, metric: str) -> Vector:
        """Return a metric of a scenario at a batch. Raises KeyError for a metric that is not linear."""
        costs = self.tables.at(scenario, batch)
        linear = linear_metrics(costs)[metric]
        constant = linear.unit * (linear.of(costs.fixed) + linear.constant)
        return Vector(self.measured(linear.of, costs), linear.unit, constant)

    def room(self, scenario: str, batch: int) -> tuple[Vector, int] | None:
        """Return (use, limit) of memory at an `auto` batch, of time under traffic, in one unit; None if the batch is given."""
        costs = self.tables.at(scenario, batch)
        if (room := room_of(costs)) is None:
            return None
        return Vector(self.measured(room.of, costs), constant=Fraction(room.of(costs.fixed))), room.limit

    def measured(self, of: Callable[..., int], *costs: ScenarioCosts) -> Whole:
        """Return a number for each column: `of` the pair's costs if they are listed, else summed over the two sub-blocks."""

        def of_ends(choice: EndsAssignment) -> int:
            return of(*[each.ends[choice.name] for each in costs])

        def of_parts(names: Names, *tables: Mapping[str, Cost]) -> Whole:
            parts = zip(names, (tables[: len(costs)], tables[len(costs) :]), strict=True)
            return _outer([[of(*[table[n] for table in own]) for n in here] for here, own in parts])

        def of_pairs(names: Names, layer: int) -> Whole:
            choices = (LayerAssignment(attention=a, ffn=f) for a, f in product(*names))
            return _whole([sum(of(cost) for cost in costs_of_layer(costs[0], layer, c)) for c in choices])

        if costs[0].pairs:
            return self._of_pairs(of_pairs, of_ends, [*range(self.layers)])
        return self._of_pairs(of_parts, of_ends, *(getattr(c, part) for part in SUB_BLOCKS for c in costs))

    def _score(self, score: str) -> Vector:
        """Return a score as a linear function. Sub-block scores are converted once per layer, not per pair."""
        tables = self.tables
        parts: list[list[float]] = []  # of each layer two lists, whose sums are its pairs' scores
        for layer, names in enumerate(self.offered):
            sites: tuple[SubBlock | EndName, ...] = SUB_BLOCKS if layer < self.layers else ENDS
            if layer < self.layers and tables.scores[score].unit == "block":
                keys = map("/".join, product(*names))
                parts += [[0.0], [tables.entry(score, "pairs", key, layer) for key in keys]]
            else:
                own = zip(sites, names, strict=True)
                parts += [[tables.entry(score, site, name, layer) for name in here] for site, here in own]
        measured = tables.runs.get(score, {}) if self.columns.period else {}
        numbers, scale = _decimals([*chain.from_iterable(parts), *measured.values()])
        *split, runs = np.split(numbers, np.cumsum([*map(len, parts)]))
        pairs = map(np.add.outer, split[::2], split[1::2])
        values = combined([(1, np.concatenate([here.ravel() for here in pairs])[self._places])])
        if measured:
            values = self._with_runs(values.astype(object), dict(zip(measured, runs.tolist(), strict=True)))
        return Vector(values, Fraction(1, scale), decimal(tables.scores[score].offset))

    def _with_runs(self, values: Whole, measured: Mapping[Run, int]) -> Whole:
        """Replace dropped layers' scores by what each adds to its run: its own score where the run up to it is not measured."""
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


def _params(names: Names, *own: Mapping[str, int]) -> Whole:
    return _outer([[params[n] for n in here] for here, params in zip(names, own, strict=True)])


def _outer(parts: Sequence[list[int]]) -> Whole:
    """Return the sums of one number of each of two lists, in the order of `product`."""
    return np.asarray(np.add.outer(*map(_whole, parts)).ravel())


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
    """Return (integers, scale): each integer / scale is the shortest decimal representation of a float."""
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
