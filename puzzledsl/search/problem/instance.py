"""A search as an integer program: columns (a pair of attention and FFN for a layer), an objective, rows `sum <= limit`, formulas.

Everything is exact if the integers fit. If not (long decimals in a score table), they are divided and rounded so that the problem
is a relaxation: every child that meets the requirements stays feasible, and bounds stay valid.
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
    from puzzledsl.search.problem.diagram import Diagram

Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]
INFINITE = Fraction(10**400)
LARGEST_SUM = 2**50  # limit on sums of rows and objectives: exact in float64, far from CP-SAT's int64 limits


Pairs = tuple[LayerAssignment, ...]


@dataclass(frozen=True, eq=False)
class Columns:
    """All choices of all layers, in the order of the space. Layer l owns columns `start[l]` to `start[l + 1] - 1`.

    Column i is pair `place[i]` of its layer's `pairs`. If scores have runs of dropped layers, a dropped layer has a column for
    each position in a run: `position[i]`, from 1 to `period`, after which it restarts at 1. All other columns have position 0. A
    `period` of 0 means that runs do not matter.
    """

    pairs: tuple[Pairs, ...]
    place: Ints
    start: Ints
    position: Ints
    period: int = 0

    @classmethod
    def of(cls, pairs: tuple[Pairs, ...]) -> Columns:
        """Return columns with every pair of every layer once, all with position 0."""
        sizes = [len(here) for here in pairs]
        place = np.concatenate([np.arange(size, dtype=np.int64) for size in sizes])
        start = np.array([0, *accumulate(sizes)], dtype=np.int64)
        return cls(pairs, place, start, np.zeros(len(place), dtype=np.int64))

    def __len__(self) -> int:
        return len(self.place)

    @property
    def layers(self) -> int:
        """Number of layers."""
        return len(self.start) - 1

    @cached_property
    def sizes(self) -> Ints:
        """Number of columns of each layer, [layers]."""
        return np.diff(self.start)

    @cached_property
    def layer_of(self) -> Ints:
        """Layer of each column, [columns]."""
        return np.repeat(np.arange(self.layers), self.sizes)

    @cached_property
    def choices(self) -> Pairs:
        """Assignment of attention and FFN of each column."""
        layers = zip(self.layer_of.tolist(), self.place.tolist(), strict=True)
        return tuple(self.pairs[layer][place] for layer, place in layers)

    def of_layer(self, layer: int) -> Pairs:
        """Return the assignments of the columns of a layer."""
        begin, end = int(self.start[layer]), int(self.start[layer + 1])
        return tuple(self.pairs[layer][place] for place in self.place[begin:end].tolist())

    def having(self, layer: int, choice: LayerAssignment) -> list[int]:
        """Return the columns of a layer with this assignment: one, or one for each position; empty if there is none."""
        names = choice.attention, choice.ffn
        begin, end = int(self.start[layer]), int(self.start[layer + 1])
        pairs = [self.pairs[layer][place] for place in self.place[begin:end].tolist()]
        return [begin + i for i, pair in enumerate(pairs) if (pair.attention, pair.ffn) == names]

    @cached_property
    def rank(self) -> Ints:
        """Rank of each column in the canonical order of its layer. Columns with the same assignment share a rank."""
        new = np.ones(len(self.place), dtype=np.int64)
        new[1:] = (self.place[1:] != self.place[:-1]) | (self.layer_of[1:] != self.layer_of[:-1])
        counted = np.cumsum(new)
        return np.asarray(counted - counted[self.start[self.layer_of]])

    def in_order(self, chosen: Ints) -> Mask:
        """Return a mask of the answers [..., layer] in which every position follows that of the layer before."""
        own = self.position[chosen]
        if not self.period:
            return np.ones(own.shape[:-1], dtype=np.bool_)
        before = np.concatenate([np.zeros_like(own[..., :1]), own[..., :-1]], axis=-1)
        return np.asarray(((own == 0) | (own == before % self.period + 1)).all(axis=-1))

    def numbered(self, chosen: Ints) -> Ints:
        """Return answers [..., layer] with each dropped layer's column replaced by that of its actual position; -1 if none."""
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
        """Column by position, [period + 1] for each layer; -1 if there is none."""
        tables = [np.full(self.period + 1, -1, dtype=np.int64) for _ in range(self.layers)]
        for column in self.position.nonzero()[0].tolist():
            tables[self.layer_of[column]][self.position[column]] = column
        return tables

    def least(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return each layer's least value, [..., columns] -> [..., layers]. Every layer must have a column."""
        return np.minimum.reduceat(values, self.start[:-1], axis=-1)

    def most(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return each layer's largest value, [..., columns] -> [..., layers]. Every layer must have a column."""
        return np.maximum.reduceat(values, self.start[:-1], axis=-1)

    def covers(self, keep: Mask) -> bool:
        """True if `keep` has a column of every layer."""
        return bool(np.logical_or.reduceat(keep, self.start[:-1]).all())

    def only(self, keep: Mask) -> Columns:
        """Return the columns in `keep`."""
        sizes = np.add.reduceat(keep.astype(np.int64), self.start[:-1])
        start = np.concatenate([[0], np.cumsum(sizes)])
        return Columns(self.pairs, self.place[keep], start, self.position[keep], self.period)


@dataclass(frozen=True, eq=False)
class Row:
    """Constraint `sum(coefficients[chosen]) <= limit`.

    `requirement`: number of its requirement in the search; None for a constraint that belongs to none. `exact`: False if its
    integers are rounded.
    """

    name: str
    coefficients: Ints
    limit: int
    requirement: int | None = None
    exact: bool = True


@dataclass(frozen=True)
class Formula:
    """A propositional requirement. `requirement`: its number in the search, or None."""

    name: str
    logic: Logic
    requirement: int | None = None


@dataclass(frozen=True)
class Tokens:
    """Conversion of a latency to an objective in tokens per second: `value = factor * tokens / latency + constant`."""

    factor: Fraction
    tokens: int
    constant: Fraction


@dataclass(frozen=True, eq=False)
class Goal:
    """Objective: minimise `sum(values[chosen])`.

    Its value in the user's terms is `constant + sign * unit * sum`, converted by `tokens` if given. `upwards`: this value is
    maximised.
    """

    values: Ints
    unit: Fraction
    constant: Fraction
    sign: int
    upwards: bool
    exact: bool
    tokens: Tokens | None = None

    def rank(self, total: int) -> Fraction:
        """Return the objective's value at a sum, negated if it is maximised, so that less is better."""
        value = self.in_units(total)
        if value is None:
            return -INFINITE if self.upwards else INFINITE
        return -value if self.upwards else value

    def in_units(self, total: int) -> Fraction | None:
        """Return the objective's value at a sum, or its bound at a bound on the sum.

        None if it is infinite: tokens per second at a latency of 0 or less.
        """
        value = self.constant + self.sign * self.unit * total
        if self.tokens is None:
            return value
        if value <= 0:
            return None
        return self.tokens.factor * self.tokens.tokens / value + self.tokens.constant

    def of(self, chosen: Ints) -> int:
        """Return the sum of chosen columns."""
        return int(self.values[chosen].sum())

    def exact_value(self, chosen: Ints) -> Fraction | None:
        """Return the objective's value of chosen columns; None if the integers are rounded or the value is infinite."""
        return self.in_units(self.of(chosen)) if self.exact else None

    def only(self, keep: Mask) -> Goal:
        """Return the objective on the columns in `keep`."""
        return replace(self, values=self.values[keep])

    def offset(self) -> float:
        """Return the constant in units of the sum."""
        return float(self.sign * self.constant / self.unit)


@dataclass(frozen=True, eq=False)
class Problem:
    """Integer program of one search for fixed batches, or for the relaxation of a box of batches.

    `diagram`: decision diagram of the formulas, if it has been built. `is_large`: it has not, because it is known to be large.
    """

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
        """Coefficients of the rows, [rows][columns]."""
        rows = [row.coefficients for row in self.rows]
        return np.array(rows, dtype=np.int64).reshape(len(rows), len(self.columns))

    @cached_property
    def limits(self) -> Ints:
        """Limits of the rows, [rows]."""
        return np.array([row.limit for row in self.rows], dtype=np.int64)

    @cached_property
    def goal_size(self) -> float:
        """Upper bound on the absolute value of the objective's sum."""
        return float(self.columns.most(np.abs(self.goal.values)).sum())

    @cached_property
    def row_sizes(self) -> NDArray[np.float64]:
        """Upper bounds on the absolute values of each row's sum and limit, at least 1, [rows]."""
        sums = self.columns.most(np.abs(self.matrix)).sum(axis=1).astype(np.float64)
        sizes = np.maximum(sums, np.abs(self.limits.astype(np.float64)))
        return np.asarray(np.maximum(sizes, 1.0), dtype=np.float64)

    def only(self, keep: Mask) -> Problem:
        """Return the problem on the columns in `keep`."""
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
        """Return the problem with additional rows."""
        return replace(self, rows=(*self.rows, *rows))

    def apart_from(self, layers: Sequence[LayerAssignment], apart: int) -> Row:
        """Return a row that only answers satisfy which differ from `layers` in at least `apart` layers."""
        same = np.zeros(len(self.columns), dtype=np.int64)
        same[[*chain.from_iterable(map(self.columns.having, count(), layers))]] = 1
        return Row(f"{apart} apart", same, self.columns.layers - apart)

    def choice(self, chosen: Ints) -> Pairs:
        """Return the assignments of chosen columns, one for each layer in order."""
        places = enumerate(self.columns.place[chosen].tolist())
        return tuple(self.columns.pairs[layer][place] for layer, place in places)

    def indices(self, layers: Sequence[LayerAssignment]) -> Ints | None:
        """Return the columns of a model; None if a layer has no column for its assignment."""
        found = [*map(self.columns.having, count(), layers)]
        if not all(found):
            return None
        chosen = self.columns.numbered(np.array([here[0] for here in found], dtype=np.int64))
        return chosen if (chosen >= 0).all() else None

    def without_runs(self) -> tuple[Problem, Ints] | None:
        """Return the problem without positions in runs, and its columns' numbers in this problem.

        Each dropped layer is scored as the first of a run. None if this leaves a layer without a column.
        """
        keep = self.columns.position <= 1
        if not self.columns.covers(keep):
            return None
        problem = replace(self, diagram=None).only(keep)
        return replace(problem, columns=replace(problem.columns, period=0), diagram=None), keep.nonzero()[0]

    @cached_property
    def tells_runs(self) -> bool:
        """True if columns of one assignment differ in a row, the objective or a preference, so that runs matter."""
        first = np.maximum.accumulate(np.where(self.columns.position <= 1, np.arange(len(self.columns)), 0))
        goals = [self.goal.values, *(goal.values for goal in self.preferences), *self.matrix]
        return any((values != values[first]).any() for values in goals)
