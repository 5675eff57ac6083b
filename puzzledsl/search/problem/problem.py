"""Build the integer problems of a search: exact ones for each combination of batches, and relaxations for boxes of batches.

Objective and requirements become integer rows; `throughput >= X` becomes the linear `latency <= tokens / X`. For a box of several
batches everything is relaxed: a model that meets a requirement at some batch inside satisfies the box's row, and its objective is
not better than the box's. For a single batch, rows are exact up to the rounding of large integers.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from itertools import chain, product
from typing import Literal

import numpy as np

from puzzledsl.ir import nodes
from puzzledsl.ir.logic import layers_of_term
from puzzledsl.ir.metric_records import NANOSECOND
from puzzledsl.ir.references import places_of, terms_of
from puzzledsl.ir.tables import PARENT, Assignment, Cost
from puzzledsl.search.problem.columns import Ints
from puzzledsl.search.problem.diagram import Diagram, diagram_of
from puzzledsl.search.problem.instance import LARGEST_SUM, Goal, Problem, Row, Tokens
from puzzledsl.search.problem.metrics import Box, Child, Coefficients, Names, Vector, Whole, latency_each
from puzzledsl.search.problem.normal_form import Formula, as_tables, with_facts
from puzzledsl.search.tables import Tables

FLIPPED = {"<=": ">=", ">=": "<=", "<": ">", ">": "<", "==": "=="}
# Requirements on so many layers, or of so many different combinations of numbers, are tables or automata, which rows would relax.
# Sums of 5-8 layers that are narrow have no answer as rows in 8 s; those that are open are up to three times as fast as rows.
FEW_LAYERS, NARROW_ROWS, OPEN_ROWS = 4, 100_000, 1_000
BEYOND = "does not fit at batch"
Sense = Literal["minimize", "maximize"]
Side = tuple[Vector, Fraction, bool]  # vector <= limit, or < if True


class Builder:
    """Builds a search's problems and caches the data that they share: coefficients, also the parent's, and decision diagrams."""

    def __init__(self, tables: Tables) -> None:
        self.tables = tables
        asked = {term.score for term in terms_of(tables.search) if isinstance(term, nodes.ScoreTerm)}
        longest = [max(length for _, length in runs) for name, runs in tables.runs.items() if name in asked]
        self.coefficients = Coefficients(tables, tables.offered, longest)
        self.columns = self.coefficients.columns
        parent: Names = ((PARENT.attention,), (PARENT.ffn,))
        self.parent = Coefficients(tables, [parent] * self.columns.layers)
        self._diagrams: dict[tuple[Formula, ...], Diagram | None] = {}
        self._last: tuple[Box, Problem] | None = None

    @cached_property
    def formulas(self) -> tuple[Formula, ...]:
        """All logical requirements, and linear ones on few layers or few numbers, as formulas."""
        return tuple(formulas_of(self.tables))

    def tokens(self, scenario: str, batch: int) -> int:
        """Return how many tokens a scenario generates in one latency at a batch; under traffic, how many requests it serves."""
        listed = self.tables.costs.scenarios[scenario]
        return batch * (1 if self.tables.is_traffic(scenario) else listed[0].output)

    def row(self, name: str, vector: Vector, limit: Fraction, strict: bool, requirement: int | None) -> Row:
        """Return `vector <= limit` (`<` if `strict`) as a row: exact, or a relaxation if integers would be too large."""
        exact = (limit - vector.constant) / vector.unit
        values, divisor = self.scaled(vector.values)
        whole = (math.ceil(exact) - 1 if strict else math.floor(exact)) // divisor
        least, most = int(self.columns.least(values).sum()), int(self.columns.most(values).sum())
        return Row(name, values, max(min(whole, most), least - 1), requirement, divisor == 1)

    def scaled(self, values: Whole) -> tuple[Ints, int]:
        """Return (values // divisor, divisor) with the least divisor for which no child's sum exceeds LARGEST_SUM."""
        magnitude = int(self.columns.most(np.abs(values)).sum())
        divisor = max(-(-magnitude // LARGEST_SUM), 1)
        return np.asarray(values // divisor if divisor > 1 else values, dtype=np.int64), divisor

    def all(self) -> Problems:
        """Return the problems of all combinations of batches; they are built on demand."""
        return Problems(self)

    def at(self, where: Mapping[str, int] | Box) -> Problem:
        """Build the problem at given batches, or a relaxation of all problems in a box."""
        search, box = self.tables.search, where if isinstance(where, Box) else Box.at(where)
        if self._last is not None and self._last[0] == box:
            return self._last[1]
        formulas = self.formulas
        local = {formula.requirement for formula in formulas}
        required = (
            self.row(requirement.where.text or f"requirement {index + 1}", *side, index)
            for index, requirement in enumerate(search.requirements)
            if isinstance(requirement, nodes.LinearRequirement) and index not in local
            for side in sides(self, requirement, box)
        )
        problem = Problem(
            name=search.name,
            columns=self.columns,
            goal=goal_of(self, search.objective, search.sense, box),
            rows=(*fitting_rows(self, box), *required),
            formulas=formulas,
            batches=box.lows,
            preferences=tuple(goal_of(self, p.goal, p.sense, box) for p in search.preferences),
        )
        self._last = box, self.with_formulas(problem, formulas)
        return self._last[1]

    def with_formulas(self, problem: Problem, formulas: tuple[Formula, ...]) -> Problem:
        """Return a problem with these formulas, and their decision diagram if it is small. Other batches share it."""
        if formulas not in self._diagrams:
            wanted = formulas or self.columns.period
            self._diagrams[formulas] = diagram_of(self.columns, formulas, quick=True) if wanted else None
        diagram = self._diagrams[formulas]
        is_large = bool(formulas) and diagram is None
        return replace(problem, formulas=formulas, diagram=diagram, is_large=is_large)

    def for_search(self, search: nodes.Search) -> Builder:
        """Return a builder of another search over the same space and tables, sharing the coefficients computed so far."""
        other = copy(self)
        other.__dict__.pop("formulas", None)
        other._last = None
        other.tables = replace(self.tables, search=search)
        return other

    def for_requirements(self, search: nodes.Search) -> Builder:
        """Return a builder of `search`, with other requirements, without the scenarios that only dropped requirements mention."""
        other = self.for_search(search)
        own = search.model_copy(update={"preferences": self.tables.search.preferences})
        scenarios = tuple(name for name in self.tables.scenarios if name in places_of(own))
        other.tables = replace(other.tables, scenarios=scenarios)
        return other


Change = Callable[[Problem, Box], Problem]


@dataclass(frozen=True)
class Problems:
    """The problems of a search, built on demand. `changes` are applied to each."""

    builder: Builder
    changes: tuple[Change, ...] = ()

    @property
    def tables(self) -> Tables:
        """The search with its space, cost table and score tables."""
        return self.builder.tables

    @cached_property
    def boxes(self) -> tuple[Box, ...]:
        """Boxes of all batches, smallest first: listed batches one by one, a profile's and traffic's as one interval."""
        tables = self.tables
        sides: list[list[tuple[int, int]]] = []
        for name in tables.scenarios:
            batches = tables.candidates(name)
            if tables.is_traffic(name):
                sides.append([(batches[0], batches[-1])])
            elif (profile := tables.profiles.get(name)) is None:
                sides.append([(batch, batch) for batch in batches])
            else:
                sides.append([(max(profile.reach[0], 1), max(profile.reach[1], 1))])
        return tuple(
            Box(tables.scenarios, tuple(low for low, _ in ends), tuple(high for _, high in ends))
            for ends in product(*sides)
        )

    def at(self, box: Box) -> Problem:
        """Build the problem of a box: exact if the box is single, else a relaxation."""
        problem = self.builder.at(box)
        for change in self.changes:
            problem = change(problem, box)
        return problem

    def changed(self, change: Change) -> Problems:
        """Return the problems with a further change applied to each, such as another objective or more rows."""
        return replace(self, changes=(*self.changes, change))

    def box_of(self, layers: Sequence[Assignment], near: Box) -> Box | None:
        """Return the box of a model's batches: its own on a profile or under traffic, else `near`'s lows; None if none fits."""
        tables = self.tables
        own = {name for name in near.scenarios if name in tables.profiles or tables.is_traffic(name)}
        lows = near.lows.items()
        batches = {name: tables.largest_batch(name, layers) if name in own else low for name, low in lows}
        return Box.at(batches) if all(batches.values()) else None

    def __iter__(self) -> Iterator[Problem]:
        """Yield the problem of every combination of batches, smallest first; these are many if a scenario has a profile."""
        return (self.at(Box.at(batches)) for batches in self.tables.batch_choices())


def goal_of(builder: Builder, linear: nodes.Linear, sense: Sense, box: Box) -> Goal:
    """Return the objective to minimise. One that is maximised is negated; a throughput is maximised by minimising latency."""
    upwards, throughput = sense == "maximize", _throughput(linear)
    if throughput is None:
        negate, tokens = upwards, None
        vector = builder.coefficients.bound(linear, box, most=negate)
    else:
        factor, scenario = throughput
        negate = upwards != (factor > 0)
        batch, vector = _latency(builder.coefficients, scenario, box, most=negate)
        tokens = Tokens(factor, builder.tokens(scenario, batch), linear.constant)
    values, divisor = builder.scaled(-vector.values if negate else vector.values)
    sign = -1 if negate else 1
    return Goal(values, vector.unit * divisor, vector.constant, sign, upwards, divisor == 1, tokens)


def _throughput(linear: nodes.Linear) -> tuple[Fraction, str] | None:
    """Return (factor, scenario) of an expression `factor * throughput + constant` (or `max_rate`); None for any other."""
    match linear.terms:
        case (
            nodes.WeightedTerm(
                coefficient=factor, term=nodes.MetricTerm(place=scenario, metric="throughput" | "max_rate")
            ),
        ):
            return factor, scenario
        case _:
            return None


def _latency(coefficients: Coefficients, scenario: str, box: Box, *, most: bool) -> tuple[int, Vector]:
    """Return (batch, latency) such that latency / batch bounds that of every batch in a box, from below or (`most`) above."""
    low, high = box.of(scenario)
    if low == high:
        return low, coefficients.metric(scenario, low, "latency")
    at_low, at_high = (coefficients.tables.at(scenario, batch) for batch in (low, high))

    def number(low_cost: Cost, high_cost: Cost) -> int:
        return latency_each(at_low.output, low_cost, high_cost)[most]

    constant = NANOSECOND * number(at_low.fixed, at_high.fixed)
    vector = Vector(coefficients.measured(number, at_low, at_high), NANOSECOND, constant)
    return low if most else high, vector


def sides(builder: Builder, requirement: nodes.LinearRequirement, box: Box) -> Iterator[Side]:
    """Yield a requirement as upper bounds on linear functions of the columns: two for `==`, none if it always holds."""
    left, op, own = requirement.left, str(requirement.op), builder.coefficients
    strict, (least, most) = op in ("<", ">"), bounds_of(builder, requirement, box)
    throughput = _throughput(left)
    if throughput is None:
        if op in ("<=", "<", "=="):
            yield own.bound(left, box, most=False), most, strict
        if op in (">=", ">", "=="):
            yield own.bound(left, box, most=True).negated(), -least, strict
        return
    factor, scenario = throughput
    least, most = sorted((bound - left.constant) / factor for bound in (least, most))
    op = op if factor > 0 else FLIPPED[op]
    if op in (">=", ">", "==") and least > 0:
        batch, latency = _latency(own, scenario, box, most=False)
        yield latency, builder.tokens(scenario, batch) / least, strict
    if op in ("<=", "<", "=="):
        batch, latency = _latency(own, scenario, box, most=True)
        if most > 0:
            yield latency.negated(), -builder.tokens(scenario, batch) / most, strict
        else:  # throughput is above 0
            yield Vector(latency.values * 0), Fraction(-1), False


def bounds_of(builder: Builder, requirement: nodes.LinearRequirement, box: Box) -> tuple[Fraction, Fraction]:
    """Return the least and the greatest right-hand side of a requirement over a box. Throughput at latency 0 counts as 0."""
    left, ratio, throughput = requirement.left, requirement.parent_ratio, _throughput(requirement.left)
    if ratio is None:
        return requirement.limit, requirement.limit
    ends = (dict(zip(box.scenarios, end, strict=True)) for end in (box.low, box.high))
    box = Box(box.scenarios, *(tuple(builder.tables.of_parent(end).values()) for end in ends))

    def parents(*, most: bool) -> Fraction:
        if throughput is None:
            return builder.parent.bound(left, box, most=most).total()
        factor, scenario = throughput
        batch, latency = _latency(builder.parent, scenario, box, most=not most)
        total = latency.total()
        return (factor * builder.tokens(scenario, batch) / total if total else 0) + left.constant

    both = [ratio * parents(most=most) for most in (False, True)]
    return min(both), max(both)


def without_larger(problem: Problem) -> Problem:
    """Return the problem without the rows that exclude models which fit at larger batches."""
    kept = (row for row in problem.rows if row.requirement is not None or BEYOND not in row.name)
    return replace(problem, rows=tuple(kept))


def fitting_rows(builder: Builder, box: Box) -> Iterator[Row]:
    """Yield rows that hold for models whose own batches (`auto` or under traffic) are in the box: they fit in it, not beyond."""
    for name in builder.tables.scenarios:
        low, high = box.of(name)
        if builder.coefficients.room(name, low) is None:
            continue
        inside, outside = builder.tables.fitting(name, low, high)
        if inside is not None and (fitting := builder.coefficients.room(name, inside)) is not None:
            yield builder.row(f"{name} fits at batch {inside}", fitting[0], Fraction(fitting[1]), False, None)
        for batch in outside:
            beyond = builder.coefficients.room(name, batch)
            assert beyond is not None, "all batches of a scenario are auto, or none"
            vector, limit = beyond
            row = f"{name} {BEYOND} {batch}"
            yield builder.row(row, vector.negated(), -Fraction(limit), True, None)


def formulas_of(tables: Tables) -> Iterator[Formula]:
    """Yield as formulas all logical requirements, and linear ones on few layers or few numbers (`is_local`)."""
    requirements = tables.search.requirements
    times = Counter(each.left for each in requirements if isinstance(each, nodes.LinearRequirement))
    for index, requirement in enumerate(requirements):
        if isinstance(requirement, nodes.LogicRequirement):
            logic = requirement.formula
        elif is_local(tables, requirement.left, requirement.op == "==" or times[requirement.left] > 1):
            bound = Child(tables, tables.parent, {}).bound_of(requirement)
            logic = nodes.Compare(left=requirement.left, op=requirement.op, bound=bound)
        else:
            continue
        yield Formula(requirement.where.text or f"requirement {index + 1}", with_facts(tables, logic), index)


def is_local(tables: Tables, left: nodes.Linear, narrow: bool) -> bool:
    """True if `left` is of at most FEW_LAYERS layers, or of few combinations of numbers. `narrow`: bounded on both sides."""
    terms, most = [weighted.term for weighted in left.terms], NARROW_ROWS if narrow else OPEN_ROWS
    layers = frozenset().union(*map(layers_of_term, terms))
    if not all(map(layers_of_term, terms)) or 2 ** len(layers) > most:
        return False
    tabled = [t for term in terms for t in as_tables(tables, term) if isinstance(t, nodes.TableTerm)]
    rows = math.prod(len({*chain(*table.values)}) ** len(table.layers) for table in tabled)
    return len(layers) <= FEW_LAYERS or rows <= most
