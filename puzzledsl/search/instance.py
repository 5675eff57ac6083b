"""A search as integers: columns (one a layer's attention and FFN pair), a goal, rows `sum <= limit`, formulas.

Everything is exact where the integers fit; where they would not (long decimals in a score table), they are divided and
rounded so that the problem is a relaxation: no child that meets the requirements is lost, and a bound stays a bound.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from itertools import accumulate, chain, count
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from puzzledsl.ir.nodes import Logic
from puzzledsl.ir.tables import LayerAssignment

if TYPE_CHECKING:
    from puzzledsl.search.diagram import Diagram

Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]
INFINITE = Fraction(10**400)
LARGEST_SUM = 2**50  # of any row or goal over any child: exact in float64 and far from CP-SAT's int64 limits


Pairs = tuple[LayerAssignment, ...]


@dataclass(frozen=True, eq=False)
class Columns:
    """All choices of all layers, in the order of the space: layer l owns columns `start[l]` to `start[l + 1] - 1`.

    Column i is pair `place[i]` of its layer's `pairs`. Where scores of runs are known, a dropped layer has several columns, one
    for each position in a run of dropped layers: `position[i]`, from 1 to `period`, after which the count begins anew. All
    other columns have position 0. With a `period` of 0 runs do not matter.
    """

    pairs: tuple[Pairs, ...]
    place: Ints
    start: Ints
    position: Ints
    period: int = 0

    @classmethod
    def of(cls, pairs: tuple[Pairs, ...]) -> Columns:
        """Every pair of every layer, once."""
        sizes = [len(here) for here in pairs]
        place = np.concatenate([np.arange(size, dtype=np.int64) for size in sizes])
        start = np.array([0, *accumulate(sizes)], dtype=np.int64)
        return cls(pairs, place, start, np.zeros(len(place), dtype=np.int64))

    def __len__(self) -> int:
        return len(self.place)

    @property
    def layers(self) -> int:
        """How many layers there are."""
        return len(self.start) - 1

    @cached_property
    def sizes(self) -> Ints:
        """How many columns each layer has."""
        return np.diff(self.start)

    @cached_property
    def layer_of(self) -> Ints:
        """The layer of each column."""
        return np.repeat(np.arange(self.layers), self.sizes)

    @cached_property
    def choices(self) -> Pairs:
        """What each column means."""
        layers = zip(self.layer_of.tolist(), self.place.tolist(), strict=True)
        return tuple(self.pairs[layer][place] for layer, place in layers)

    def of_layer(self, layer: int) -> Pairs:
        """What the columns of a layer mean."""
        begin, end = int(self.start[layer]), int(self.start[layer + 1])
        return tuple(self.pairs[layer][place] for place in self.place[begin:end].tolist())

    def having(self, layer: int, choice: LayerAssignment) -> list[int]:
        """The columns of a layer that mean this."""
        names = choice.attention, choice.ffn
        begin, end = int(self.start[layer]), int(self.start[layer + 1])
        pairs = [self.pairs[layer][place] for place in self.place[begin:end].tolist()]
        return [begin + i for i, pair in enumerate(pairs) if (pair.attention, pair.ffn) == names]

    @cached_property
    def rank(self) -> Ints:
        """Each column's place in the canonical order of its layer: columns of the same meaning share it."""
        new = np.ones(len(self.place), dtype=np.int64)
        new[1:] = (self.place[1:] != self.place[:-1]) | (self.layer_of[1:] != self.layer_of[:-1])
        counted = np.cumsum(new)
        return np.asarray(counted - counted[self.start[self.layer_of]])

    def in_order(self, chosen: Ints) -> Mask:
        """True for each answer [...][layer] where each dropped layer's position is the one after that of the layer before."""
        own = self.position[chosen]
        if not self.period:
            return np.ones(own.shape[:-1], dtype=np.bool_)
        before = np.concatenate([np.zeros_like(own[..., :1]), own[..., :-1]], axis=-1)
        return np.asarray(((own == 0) | (own == before % self.period + 1)).all(axis=-1))

    def numbered(self, chosen: Ints) -> Ints:
        """Answers, [...][layer], with the positions that their choices have; -1 where there is no such column."""
        if not self.period:
            return chosen
        found, before = chosen.copy(), np.zeros(chosen.shape[:-1], dtype=np.int64)
        for layer in range(self.layers):
            own = chosen[..., layer]
            dropped = self.position[own] > 0
            before = np.where(dropped, before % self.period + 1, 0)
            found[..., layer] = np.where(dropped, self._by_position[layer][before], own)
        return found

    @cached_property
    def _by_position(self) -> list[Ints]:
        """The column of each position, of each layer; -1 where there is none."""
        tables = [np.full(self.period + 1, -1, dtype=np.int64) for _ in range(self.layers)]
        for column in self.position.nonzero()[0].tolist():
            tables[self.layer_of[column]][self.position[column]] = column
        return tables

    def least(self, values: NDArray[Any]) -> NDArray[Any]:
        """Each layer's least value (every layer has a column)."""
        return np.minimum.reduceat(values, self.start[:-1], axis=-1)

    def most(self, values: NDArray[Any]) -> NDArray[Any]:
        """Each layer's largest value."""
        return np.maximum.reduceat(values, self.start[:-1], axis=-1)

    def covers(self, keep: Mask) -> bool:
        """Whether every layer has one of these columns."""
        return bool(np.logical_or.reduceat(keep, self.start[:-1]).all())

    def only(self, keep: Mask) -> Columns:
        """These columns alone."""
        sizes = np.add.reduceat(keep.astype(np.int64), self.start[:-1])
        start = np.concatenate([[0], np.cumsum(sizes)])
        return Columns(self.pairs, self.place[keep], start, self.position[keep], self.period)


@dataclass(frozen=True, eq=False)
class Row:
    """`sum(coefficients[chosen]) <= limit`. `requirement` is its place in the search; None for what is always kept."""

    name: str
    coefficients: Ints
    limit: int
    requirement: int | None = None
    exact: bool = True


@dataclass(frozen=True)
class Formula:
    """A propositional requirement."""

    name: str
    logic: Logic
    requirement: int | None = None


@dataclass(frozen=True)
class Tokens:
    """A goal in tokens a second is a latency: `value = factor * tokens / latency + constant`."""

    factor: Fraction
    tokens: int
    constant: Fraction


@dataclass(frozen=True, eq=False)
class Goal:
    """Minimise `sum(values[chosen])`. The goal's own value is `constant + sign * unit * sum`, or what `tokens` makes of it;
    `upwards`: that value is to be large."""

    values: Ints
    unit: Fraction
    constant: Fraction
    sign: int
    upwards: bool
    exact: bool
    tokens: Tokens | None = None

    def rank(self, total: int) -> Fraction:
        """The goal's value at a sum, so that less is better whatever the sense."""
        value = self.in_units(total)
        if value is None:
            return -INFINITE if self.upwards else INFINITE
        return -value if self.upwards else value

    def in_units(self, total: int) -> Fraction | None:
        """The goal's value at a sum, or a bound on it at a bound on the sum; None where it is infinite (tokens in no time)."""
        value = self.constant + self.sign * self.unit * total
        if self.tokens is None:
            return value
        if value <= 0:
            return None
        return self.tokens.factor * self.tokens.tokens / value + self.tokens.constant

    def of(self, chosen: Ints) -> int:
        """The sum that chosen columns have."""
        return int(self.values[chosen].sum())

    def only(self, keep: Mask) -> Goal:
        """The goal on some of the columns."""
        return replace(self, values=self.values[keep])

    def offset(self) -> float:
        """The constant, in units of the sum."""
        return float(self.sign * self.constant / self.unit)


@dataclass(frozen=True, eq=False)
class Problem:
    """One search at one batch for every scenario it mentions. `diagram`: of the formulas, where it has been made; `is_large`: it
    has not, because it is known to be large."""

    name: str
    columns: Columns
    goal: Goal
    rows: tuple[Row, ...]
    formulas: tuple[Formula, ...]
    batches: Mapping[str, int]
    preferences: tuple[Goal, ...] = ()
    diagram: Diagram | None = None
    is_large: bool = False

    @cached_property
    def matrix(self) -> Ints:
        """The rows' coefficients, [rows][columns]."""
        rows = [row.coefficients for row in self.rows]
        return np.array(rows, dtype=np.int64).reshape(len(rows), len(self.columns))

    @cached_property
    def limits(self) -> Ints:
        """The rows' limits."""
        return np.array([row.limit for row in self.rows], dtype=np.int64)

    @cached_property
    def goal_size(self) -> float:
        """No sum of the goal is larger, in absolute value."""
        return float(self.columns.most(np.abs(self.goal.values)).sum())

    @cached_property
    def row_sizes(self) -> NDArray[np.float64]:
        """No sum of a row and no limit is larger, in absolute value; at least 1."""
        sums = self.columns.most(np.abs(self.matrix)).sum(axis=1).astype(np.float64)
        sizes = np.maximum(sums, np.abs(self.limits.astype(np.float64)))
        return np.asarray(np.maximum(sizes, 1.0), dtype=np.float64)

    def only(self, keep: Mask) -> Problem:
        """The problem on some of its columns."""
        if keep.all():
            return self
        return replace(
            self,
            columns=self.columns.only(keep),
            goal=self.goal.only(keep),
            preferences=tuple(goal.only(keep) for goal in self.preferences),
            rows=tuple(replace(row, coefficients=row.coefficients[keep]) for row in self.rows),
            diagram=None if self.diagram is None else self.diagram.only(self.columns, keep),
        )

    def with_rows(self, *rows: Row) -> Problem:
        """The problem with more rows."""
        return replace(self, rows=(*self.rows, *rows))

    def apart_from(self, layers: Sequence[LayerAssignment], apart: int) -> Row:
        """Differ from an assignment in at least `apart` layers."""
        same = np.zeros(len(self.columns), dtype=np.int64)
        same[[*chain.from_iterable(map(self.columns.having, count(), layers))]] = 1
        return Row(f"{apart} apart", same, self.columns.layers - apart)

    def choice(self, chosen: Ints) -> Pairs:
        """What chosen columns (one a layer, in order) mean."""
        places = enumerate(self.columns.place[chosen].tolist())
        return tuple(self.columns.pairs[layer][place] for layer, place in places)

    def indices(self, layers: Sequence[LayerAssignment]) -> Ints | None:
        """The columns of an assignment; None where one is no column."""
        found = [*map(self.columns.having, count(), layers)]
        if not all(found):
            return None
        chosen = self.columns.numbered(np.array([here[0] for here in found], dtype=np.int64))
        return chosen if (chosen >= 0).all() else None

    def without_runs(self) -> tuple[Problem, Ints] | None:
        """The problem with each dropped layer scored as the first of its run, and the columns that it has; None where a layer has
        no such column."""
        keep = self.columns.position <= 1
        if not self.columns.covers(keep):
            return None
        problem = replace(self, diagram=None).only(keep)
        return replace(problem, columns=replace(problem.columns, period=0), diagram=None), keep.nonzero()[0]

    @cached_property
    def tells_runs(self) -> bool:
        """True where the columns of one choice differ in a row, in the goal or in a preference."""
        first = np.maximum.accumulate(np.where(self.columns.position <= 1, np.arange(len(self.columns)), 0))
        goals = [self.goal.values, *(goal.values for goal in self.preferences), *self.matrix]
        return any((values != values[first]).any() for values in goals)
