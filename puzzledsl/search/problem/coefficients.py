"""Linear expressions as exact integers by column: `value = constant + unit * sum of the chosen columns' integers`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from functools import cached_property
from itertools import chain, product
from typing import Any, TypeVar, assert_never

import numpy as np
from numpy.typing import NDArray

from puzzledsl.alternatives.alternative import SubBlock
from puzzledsl.costs.any_batch import Key
from puzzledsl.ir.layer_runs import Run
from puzzledsl.ir.metrics import linear_metrics, room_of
from puzzledsl.ir.nodes import CountTerm, FactTerm, Linear, MetricTerm, ParamsTerm, ScoreTerm, TableTerm, Term
from puzzledsl.ir.tables import Cost, ScenarioCosts
from puzzledsl.search.problem.box import Box
from puzzledsl.search.problem.columns import Columns
from puzzledsl.search.problem.dropped_runs import added_by_runs
from puzzledsl.search.tables import Tables, decimal

Whole = NDArray[Any]  # int64, or object (Python integers) where int64 might overflow
Names = Sequence[Sequence[str]]  # alternatives of one sub-block, by layer
Entry = TypeVar("Entry")
SAFE = 2**61  # sums over one column per layer stay below this in int64
ATTENTION: SubBlock = "attention"
FFN: SubBlock = "ffn"


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
        """Return the value if every key is chosen; with one key per layer, the value of that model."""
        return self.constant + self.unit * int(sum(self.values.tolist()))


class Coefficients:
    """Coefficients of linear expressions over columns: all pairs of an attention and an FFN by layer, in the space's order."""

    def __init__(
        self,
        tables: Tables,
        attention: Names,
        ffn: Names,
        like: Coefficients | None = None,
        columns: Columns | None = None,
    ) -> None:
        """`attention` and `ffn`: names of the alternatives, by layer.

        `like`: coefficients of the same tables, whose numbers are reused. `columns`: needed if some pairs have several columns
        (positions in runs of dropped layers).
        """
        self.tables, self.columns = tables, columns
        self._numbers: dict[tuple[int, str], dict[str, int]] = {} if like is None else like._numbers
        self.attention, self.ffn = attention, ffn
        self._known: dict[tuple[Term, int | None], Vector] = {}
        self._sums: dict[tuple[Linear, tuple[int | None, ...]], Vector] = {}
        self._flat: dict[int, list[Cost]] = {}
        self._spreads: dict[tuple[SubBlock, tuple[int, ...], tuple[Key, ...]], NDArray[np.int64]] = {}

    @cached_property
    def _pair_names(self) -> list[list[str]]:
        """Names of each layer's pairs, as in tables (`attention/ffn`). Layers with the same alternatives share a list."""
        known: dict[tuple[tuple[str, ...], tuple[str, ...]], list[str]] = {}
        found = []
        for names in zip(map(tuple, self.attention), map(tuple, self.ffn), strict=True):
            if names not in known:
                known[names] = [f"{a}/{f}" for a, f in product(*names)]
            found.append(known[names])
        return found

    @cached_property
    def _places(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Indices of each column's attention and of its FFN in the concatenated names of all layers."""
        attention, ffn = [], []
        first = [0, 0]
        for wide, high in ((len(a), len(f)) for a, f in zip(self.attention, self.ffn, strict=True)):
            attention.append(np.repeat(np.arange(first[0], first[0] + wide), high))
            ffn.append(np.tile(np.arange(first[1], first[1] + high), wide))
            first = [first[0] + wide, first[1] + high]
        return self._each(np.concatenate(attention)), self._each(np.concatenate(ffn))

    def _each(self, of_pairs: Whole) -> Whole:
        """Expand values of pairs to values of columns."""
        columns = self.columns
        if columns is None or not columns.period:
            return of_pairs
        first = np.cumsum([0, *(len(pairs) for pairs in columns.pairs)])[columns.layer_of]
        return np.asarray(of_pairs[first + columns.place])

    def least(self, linear: Linear, box: Box) -> Vector:
        """Return a lower bound of a linear expression (without throughput) over a box; exact in a single box.

        All terms have one common unit, and the integers are divided by their greatest common divisor.
        """
        return self._at(linear, tuple(0 if w.coefficient > 0 else 1 for w in linear.terms), box)

    def most(self, linear: Linear, box: Box) -> Vector:
        """Return an upper bound of a linear expression (without throughput) over a box; exact in a single box."""
        return self._at(linear, tuple(1 if w.coefficient > 0 else 0 for w in linear.terms), box)

    def _at(self, linear: Linear, ends: tuple[int, ...], box: Box) -> Vector:
        """Return a linear expression with each metric at one end (0 low, 1 high) of its scenario's interval.

        This bounds it over the interval, because metrics do not decrease with the batch.
        """
        batches = tuple(
            box.of(w.term.scenario)[end] if isinstance(w.term, MetricTerm) else None
            for w, end in zip(linear.terms, ends, strict=True)
        )
        if any(
            isinstance(w.term, MetricTerm) and w.term.scenario in self.tables.profiles for w in linear.terms
        ):
            return self._summed(linear, batches)  # fast, and a profile has too many batches to cache
        if (linear, batches) not in self._sums:
            self._sums[linear, batches] = self._summed(linear, batches)
        return self._sums[linear, batches]

    def _summed(self, linear: Linear, batches: Sequence[int | None]) -> Vector:
        vectors = [(w.coefficient, self.term(w.term, b)) for w, b in zip(linear.terms, batches, strict=True)]
        constant = sum((c * v.constant for c, v in vectors), linear.constant)
        units = [c * v.unit for c, v in vectors if c]
        if not units:
            return Vector(np.zeros(len(self._places[0]), dtype=np.int64), Fraction(1), constant)
        unit = Fraction(math.gcd(*(u.numerator for u in units)), math.lcm(*(u.denominator for u in units)))
        parts = [_times(v.values, int(c * v.unit / unit)) for c, v in vectors if c]
        values = _narrow(sum(_wide(parts)[1:], _wide(parts)[0]))
        divisor = int(np.gcd.reduce(values)) or 1
        return Vector(values // divisor if divisor > 1 else values, unit * divisor, constant)

    def term(self, term: Term, batch: int | None) -> Vector:
        """Return one term in base units; `batch` for a metric. Raises DiagnosticError for a choice that is not scored."""
        if isinstance(term, MetricTerm) and term.scenario in self.tables.profiles:
            return self._term(term, batch)
        if (term, batch) not in self._known:
            self._known[term, batch] = self._term(term, batch)
        return self._known[term, batch]

    def _term(self, term: Term, batch: int | None) -> Vector:
        match term:
            case MetricTerm(scenario=scenario, metric=metric):
                assert batch is not None
                return self.metric(scenario, batch, metric)
            case ScoreTerm(score=score):
                return self._score(score)
            case ParamsTerm():
                costs = self.tables.costs
                values = self._sum(costs.params_attention, costs.params_ffn)
                return Vector(values, constant=Fraction(costs.params_fixed))
            case FactTerm(sub_block=part, attribute=attribute, layers=layers):
                return Vector(self._facts(part, attribute, layers))
            case CountTerm(sub_block=part, alternatives=alternatives, layers=layers):
                wanted = frozenset(alternatives)
                return Vector(self._alone(part, layers, lambda _, name: int(name in wanted)))
            case TableTerm():
                return self._table(term)
            case _:
                assert_never(term)

    def _sum(self, attention: Sequence[Mapping[str, int]], ffn: Sequence[Mapping[str, int]]) -> Whole:
        """Return the sum of each column's attention entry and FFN entry."""
        return self._added(_entries(attention, self.attention), _entries(ffn, self.ffn))

    def _added(self, attention: list[int], ffn: list[int]) -> Whole:
        """Return, for each column, its attention's number plus its FFN's; both lists are concatenated over layers."""
        left, right = _wide([_whole_numbers(attention), _whole_numbers(ffn)])
        return left[self._places[0]] + right[self._places[1]]

    def _alone(self, part: SubBlock, layers: Sequence[int], value: Callable[[int, str], int]) -> Whole:
        """Return `value(layer, name)` of each column's attention or FFN, and 0 outside `layers`."""
        inside, names = frozenset(layers), self.attention if part == ATTENTION else self.ffn
        numbers = [value(i, name) if i in inside else 0 for i, here in enumerate(names) for name in here]
        return _whole_numbers(numbers)[self._places[0 if part == ATTENTION else 1]]

    def _facts(self, part: SubBlock, attribute: str, layers: Sequence[int]) -> Whole:
        """Return a fact (`attribute`) of each column's attention or FFN, and 0 outside `layers`.

        Computed once for layers alike that share a choice object, except parameters, which the cost table has by layer.
        """
        known: dict[tuple[int, int, str], int] = {}
        choices, shape = self.tables.layers, self.tables.shape

        def value(layer: int, name: str) -> int:
            own = layer if attribute == "params" else id(choices[layer])
            key = own, id(shape.at(layer)), name
            if key not in known:
                known[key] = self.tables.fact(part, attribute, layer, name)
            return known[key]

        return self._alone(part, layers, value)

    def _score(self, score: str) -> Vector:
        """Return a score table. Sub-block scores are converted once per layer, not per pair."""
        tables = self.tables
        offset = decimal(tables.scores[score].offset)
        if tables.scores[score].unit == "block":
            pairs = (tables.pair_scores(score, layer, keys) for layer, keys in enumerate(self._pair_names))
            numbers, scale, runs = self._with_runs(score, [*chain.from_iterable(pairs)])
            return Vector(self._counted(self._each(numbers), runs), Fraction(1, scale), offset)
        flat = [
            tables.sub_block_score(score, layer, part, name)
            for part, names in ((ATTENTION, self.attention), (FFN, self.ffn))
            for layer, here in enumerate(names)
            for name in here
        ]
        values, scale, runs = self._with_runs(score, flat)
        attentions = sum(map(len, self.attention))
        left, right = values[:attentions], values[attentions:]
        values = left[self._places[0]] + right[self._places[1]]
        return Vector(self._counted(values, runs), Fraction(1, scale), offset)

    def _with_runs(self, score: str, flat: list[float]) -> tuple[Whole, int, dict[Run, int]]:
        """Return scores and the scores of measured runs as integers, with their common denominator between them."""
        measured = self.tables.runs.get(score, {}) if self.columns is not None and self.columns.period else {}
        values, scale = _decimals([*flat, *measured.values()])
        return values[: len(flat)], scale, dict(zip(measured, values[len(flat) :].tolist(), strict=True))

    def _counted(self, values: Whole, runs: Mapping[Run, int]) -> Whole:
        """Replace the scores of columns of dropped layers by what each adds to the score of its run."""
        columns = self.columns
        if columns is None or not runs:
            return values
        first = (columns.position == 1).nonzero()[0]
        own = dict(zip(columns.layer_of[first].tolist(), values[first].tolist(), strict=True))
        added = added_by_runs(columns, own, runs)
        counted = values.astype(object)
        counted[[*added]] = [*added.values()]
        return _narrow(counted)

    def _table(self, term: TableTerm) -> Vector:
        """Return a table's value of each column, and 0 outside its layers; read once for layers with the same names."""
        inside = frozenset(term.layers)
        known: dict[tuple[int, int], list[Fraction]] = {}
        numbers: list[Fraction] = []
        for layer, (attention, ffn) in enumerate(zip(self.attention, self.ffn, strict=True)):
            if layer not in inside:
                numbers += [Fraction(0)] * (len(attention) * len(ffn))
                continue
            key = id(attention), id(ffn)
            if key not in known:
                known[key] = [term.value(a, f) for a, f in product(attention, ffn)]
            numbers += known[key]
        scale = math.lcm(*{n.denominator for n in numbers})
        values = _whole_numbers([n.numerator * (scale // n.denominator) for n in numbers])
        return Vector(self._each(values), Fraction(1, scale))

    def _costs(self, tables: Sequence[Mapping[str, Cost]], names: Names) -> list[Cost]:
        """Return the costs of all names, concatenated over layers; cached, because every metric reads them."""
        if id(tables) not in self._flat:
            self._flat[id(tables)] = _entries(tables, names)
        return self._flat[id(tables)]

    def _numbers_of(
        self, tables: Sequence[Mapping[str, Cost]], metric: str, measure: Callable[[Cost], int]
    ) -> list[dict[str, int]]:
        """Return `measure` of each cost, by layer and name; cached by table, which layers may share."""
        known = self._numbers
        for table in tables:
            if (id(table), metric) not in known:
                known[id(table), metric] = {name: measure(cost) for name, cost in table.items()}
        return [known[id(table), metric] for table in tables]

    def metric(self, scenario: str, batch: int, metric: str) -> Vector:
        """Return a metric of a scenario at a batch. Raises KeyError for a metric that is not linear."""
        costs = self.tables.at(scenario, batch)
        linear = linear_metrics(costs)[metric]
        return self._measured(costs, metric, linear.of, linear.unit, linear.constant)

    def room(self, scenario: str, batch: int) -> tuple[Vector, int] | None:
        """Return (memory that a model takes, memory available) for an `auto` batch, in one unit; None if the batch is given."""
        costs = self.tables.at(scenario, batch)
        room = room_of(costs)
        return None if room is None else (self._measured(costs, "room", room.of), room.limit)

    def _measured(
        self,
        costs: ScenarioCosts,
        name: str,
        measure: Callable[[Cost], int],
        unit: Fraction = Fraction(1),
        more: int = 0,
    ) -> Vector:
        """Return the sum of `measure` over a model's costs, in `unit`. `more`: an additional constant in that unit."""
        constant = unit * (measure(costs.fixed) + more)
        if costs.scenario in self.tables.profiles:
            profile = self.tables.profiles[costs.scenario]
            here = profile.costs(costs.batch)
            attentions, ffns = (
                {key: measure(c) for key, c in part.items()} for part in (here.attention, here.ffn)
            )
            return Vector(self.spread(profile.kinds, attentions, ffns), unit, constant)
        if not costs.pairs:
            parts = self._costs(costs.attention, self.attention), self._costs(costs.ffn, self.ffn)
            return Vector(self._added(*([*map(measure, part)] for part in parts)), unit, constant)
        attention = self._numbers_of(costs.attention, name, measure)
        ffn = self._numbers_of(costs.ffn, name, measure)
        pairs = self._numbers_of(costs.pairs, name, measure)
        values = []
        for layer, names in enumerate(zip(self.attention, self.ffn, strict=True)):
            for a, f in product(*names):
                pair = pairs[layer].get(f"{a}/{f}")
                values.append(attention[layer][a] + ffn[layer][f] if pair is None else pair)
        return Vector(self._each(_whole_numbers(values)), unit, constant)

    def spread(self, kinds: tuple[int, ...], attention: Mapping[Key, int], ffn: Mapping[Key, int]) -> Whole:
        """Return, for each column, its attention's number plus its FFN's: numbers by kind of layer (`kinds`) and name."""
        parts = ((ATTENTION, attention), (FFN, ffn))
        left, right = (self._spread(part, kinds, values) for part, values in parts)
        return left + right

    def _spread(self, part: SubBlock, kinds: tuple[int, ...], values: Mapping[Key, int]) -> Whole:
        key = part, kinds, tuple(values)
        if key not in self._spreads:
            place = {key: i for i, key in enumerate(values)}
            names = self.attention if part == ATTENTION else self.ffn
            layers = [*zip(kinds, map(id, names), names, strict=True)]
            known = {(kind, one): [place[kind, name] for name in here] for kind, one, here in layers}
            flat = np.fromiter(
                chain.from_iterable(known[kind, one] for kind, one, _ in layers), dtype=np.int64
            )
            self._spreads[key] = flat[self._places[0 if part == ATTENTION else 1]]
        safe = max(map(abs, values.values()), default=0) < SAFE // (2 * len(self.attention))
        numbers: Whole = np.array([*values.values()], dtype=np.int64 if safe else object)
        return numbers[self._spreads[key]]


def _entries(tables: Sequence[Mapping[str, Entry]], names: Names) -> list[Entry]:
    return list(
        chain.from_iterable(map(table.__getitem__, here) for table, here in zip(tables, names, strict=True))
    )


def _whole_numbers(numbers: list[int]) -> Whole:
    """Return an array of int64, or of Python integers if a sum of all might overflow."""
    fits = max(map(abs, numbers), default=0) < SAFE // max(len(numbers), 1)
    return np.array(numbers, dtype=np.int64 if fits else object)


def _wide(parts: list[Whole]) -> list[Whole]:
    """Return the arrays unchanged, or all as Python integers if one is already or their sum might overflow."""
    if all(part.dtype != object for part in parts):
        most = sum(int(np.abs(part).max(initial=0)) for part in parts)
        if most < SAFE // max(len(parts[0]), 1):
            return parts
    return [part.astype(object) for part in parts]


def _times(values: Whole, factor: int) -> Whole:
    if values.dtype != object:
        largest = int(np.abs(values).max(initial=0))
        if not largest:
            return values  # a factor beyond int64 would overflow even on zeros
        if abs(factor) * largest >= SAFE // len(values):
            values = values.astype(object)
    return values if factor == 1 else values * factor


def _narrow(values: Whole) -> Whole:
    """Convert Python integers to int64 if they are small enough."""
    if values.dtype == object and max(map(abs, values.tolist()), default=0) < SAFE // max(len(values), 1):
        return values.astype(np.int64)
    return values


MOST_DIGITS = 15  # different decimals of up to 15 digits are different floats, so one that reads as a float is its shortest


def _decimals(numbers: list[float]) -> tuple[Whole, int]:
    """Return floats as integers over a common denominator (a power of ten): their shortest decimal representations."""
    floats = np.array(numbers, dtype=np.float64)
    largest = float(np.abs(floats).max(initial=0.0))
    for places in range(MOST_DIGITS + 1):
        scale = 10**places
        if largest * scale >= 10**MOST_DIGITS:
            break
        whole = np.rint(floats * scale)
        if (whole / scale == floats).all():
            return whole.astype(np.int64), scale
    exact = [Decimal(repr(number)) for number in numbers]
    places = max(0, -min(_exponents(exact), default=0))
    return _narrow(np.array([int(number.scaleb(places)) for number in exact], dtype=object)), 10**places


def _exponents(numbers: list[Decimal]) -> Iterator[int]:
    for number in numbers:
        exponent = number.as_tuple().exponent
        assert isinstance(exponent, int), "scores are finite"
        yield exponent
