"""A search as an integer program: columns (a pair of attention and FFN for a layer), an objective, rows `sum <= limit`, formulas.

Everything is exact if the integers fit. If not (long decimals in a score table), they are divided and rounded so that the problem
is a relaxation: every child that meets the requirements stays feasible, and bounds stay valid.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from itertools import chain, count
from math import inf
from typing import Self

import numpy as np

from puzzledsl.ir.tables import Assignment
from puzzledsl.search.problem.columns import Columns, Floats, Ints, Mask, Pairs
from puzzledsl.search.problem.diagram import Diagram, Paths, diagram_of
from puzzledsl.search.problem.normal_form import Formula, NormalForm
from puzzledsl.search.problem.residuals import FALSE

INFINITE = Fraction(10**400)
FEW_NUMBERS = 4
LARGEST_SUM = 2**50  # limit on sums of rows and objectives: exact in float64, far from CP-SAT's int64 limits


@dataclass(frozen=True, eq=False)
class Row:
    """Constraint `sum(coefficients[chosen]) <= limit`. `requirement`: number of its requirement, if any. `exact`: not rounded."""

    name: str
    coefficients: Ints
    limit: int
    requirement: int | None = None
    exact: bool = True


@dataclass(frozen=True)
class Tokens:
    """Conversion of a latency to tokens (under traffic: requests) per second: `value = factor * tokens / latency + constant`."""

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
    unit: Fraction = Fraction(1)
    constant: Fraction = Fraction(0)
    sign: int = 1
    upwards: bool = False
    exact: bool = True
    tokens: Tokens | None = None

    def rank(self, total: int) -> Fraction:
        """Return the objective's value at a sum, negated if it is maximised, so that less is better."""
        value = self.in_units(total)
        if value is None:
            return -INFINITE if self.upwards else INFINITE
        return -value if self.upwards else value

    def in_units(self, total: int) -> Fraction | None:
        """Return the objective's value at a sum; None if infinite: tokens per second at a latency of 0 or less."""
        value = self.constant + self.sign * self.unit * total
        if self.tokens is None:
            return value
        return self.tokens.factor * self.tokens.tokens / value + self.tokens.constant if value > 0 else None

    def of(self, chosen: Ints) -> int:
        """Return the sum of chosen columns."""
        return int(self.values[chosen].sum())

    def only(self, keep: Mask) -> Goal:
        """Return the objective on the columns in `keep`."""
        return replace(self, values=self.values[keep])


@dataclass(frozen=True, eq=False)
class Problem:
    """Integer program of a search at given batches or in a box. `is_large`: its `diagram` is known to be large."""

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
    def largest_sum(self) -> int:
        """Upper bound on the objective's sum: each layer's largest value, added up."""
        return int(self.columns.most(self.goal.values).sum())

    @cached_property
    def goal_size(self) -> float:
        """Upper bound on the absolute value of the objective's sum."""
        return float(self.columns.most(np.abs(self.goal.values)).sum())

    @cached_property
    def row_sizes(self) -> Floats:
        """Upper bounds on the absolute values of each row's sum and limit, at least 1, [rows]."""
        sums = self.columns.most(np.abs(self.matrix)).sum(axis=1).astype(np.float64)
        return np.asarray(np.maximum(np.maximum(sums, np.abs(self.limits)), 1.0), dtype=np.float64)

    @cached_property
    def is_coarse(self) -> bool:
        """True if the objective has so few different values that many answers are equally good, as when it counts layers."""
        return len(np.unique(self.goal.values)) <= FEW_NUMBERS

    @cached_property
    def normal(self) -> NormalForm:
        """Normal form of the formulas."""
        return NormalForm(self.columns, self.formulas)

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

    def largest_below(self, rank: Fraction | None, *, ties: bool = False) -> int:
        """Return the largest sum whose rank is below `rank` (`ties`: or equal; None: any); one less than the least if none is."""
        least = int(self.columns.least(self.goal.values).sum())

        def loses(total: int) -> bool:
            own = self.goal.rank(total)
            return rank is not None and (own > rank or (own == rank and not ties))

        return least + bisect_left(range(least, self.largest_sum + 1), True, key=loses) - 1

    def apart_from(self, layers: Sequence[Assignment], apart: int) -> Row:
        """Return a row that is satisfied by exactly the answers that differ from `layers` in at least `apart` layers."""
        same = np.zeros(len(self.columns), dtype=np.int64)
        same[[*chain.from_iterable(map(self.columns.having, count(), layers))]] = 1
        return Row(f"{apart} apart", same, self.columns.layers - apart)

    def is_feasible(self, chosen: Ints) -> bool:
        """True if the chosen columns satisfy every row and formula, with consecutive positions in runs of dropped layers."""
        within = bool((self.matrix[:, chosen].sum(axis=1) <= self.limits).all())
        return within and bool(self.meeting_formulas(chosen[None, :])[0])

    def meeting_formulas(self, chosen: Ints) -> Mask:
        """Return the mask of answers [answer][layer] that meet every formula and have consecutive positions in runs."""
        pool, meet = self.normal, np.ones(len(chosen), dtype=np.bool_)
        for formula in (*pool.runs, *pool.formulas):
            meet &= pool.truth(formula, chosen)
        return meet

    def choice(self, chosen: Ints) -> Pairs:
        """Return the assignments of chosen columns, one for each layer in order."""
        places = enumerate(self.columns.place[chosen].tolist())
        return tuple(self.columns.pairs[layer][place] for layer, place in places)

    def indices(self, layers: Sequence[Assignment]) -> Ints | None:
        """Return the columns of a model; None if a layer has no column for its assignment at its position in a run."""
        found = [*map(self.columns.having, count(), layers)]
        if not all(found):
            return None
        chosen = self.columns.numbered(np.array([here[0] for here in found], dtype=np.int64))
        return chosen if (chosen >= 0).all() else None


@dataclass(frozen=True, slots=True)
class Effort:
    """Limits of a solve. `deadline`: seconds on the monotonic clock. `gap`: relative gap that is accepted.

    `work` limits CP-SAT's deterministic time, and `labels` the number of labels of label setting. A search that stops at these
    limits gives the same answer on every machine.
    """

    deadline: float
    gap: float = 0.0
    seed: int = 0
    workers: int = 1
    work: float | None = None
    labels: int = 10_000_000

    @classmethod
    def of(cls, time_s: float, gap: float = 0.0, seed: int = 0, workers: int = 1) -> Self:
        """Return an effort whose deadline is `time_s` seconds from now."""
        return cls(time.monotonic() + time_s, gap, seed, workers)

    def share(self, share: float) -> Effort:
        """Return the effort with a share of the time that is left."""
        return replace(self, deadline=time.monotonic() + share * max(self.left_s, 0.0))

    @property
    def left_s(self) -> float:
        """Seconds until the deadline."""
        return self.deadline - time.monotonic()


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """Result of an engine. `chosen`: columns of the given problem, of sum `value`. `bound`: proven lower bound on the sum.

    `proven`: the answer is optimal up to the requested gap, or, without an answer, none exists within the limit on the sum.
    `found_by` and `proved_by`: names of the engines that found the answer and finished the proof.
    """

    chosen: Ints | None = None
    value: int | None = None
    bound: int | None = None
    proven: bool = False
    found_by: str = ""
    proved_by: str = ""

    @property
    def infeasible(self) -> bool:
        """True if it is proven that no answer exists within the limit on the sum."""
        return self.proven and self.chosen is None


@dataclass(frozen=True, slots=True, eq=False)
class Presolved:
    """A problem without the columns that its diagram rules out. `origin[column]`: the column's number in the given problem."""

    problem: Problem
    origin: Ints


def paths_of(problem: Problem) -> Paths | None:
    """Return the paths of a problem's diagram; None if it has no diagram or the diagram has no stages."""
    diagram = problem.diagram
    return None if diagram is None or not diagram.order else Paths(problem.columns, diagram)


def is_unfinished(diagram: Diagram | None) -> bool:
    """True if there is no diagram of all formulas yet; more time may give one."""
    return diagram is None or not diagram.whole


def presolve(problem: Problem, quick: bool = False, deadline: float = inf) -> Presolved | None:
    """Return the problem without columns that formulas exclude, and a diagram if built in time; None if no answer meets them."""
    origin = np.arange(len(problem.columns))
    if not problem.formulas and not problem.columns.period:
        return Presolved(problem, origin)
    diagram = problem.diagram
    if (is_unfinished(diagram) and not quick) or (diagram is None and not problem.is_large):
        diagram = diagram_of(problem.columns, problem.formulas, quick, deadline)
    if diagram is None:
        return None if FALSE in problem.normal.formulas else Presolved(problem, origin)
    if not diagram.feasible:
        return None
    if diagram is not problem.diagram:
        problem = replace(problem, diagram=diagram)
    live = np.ones(len(problem.columns), dtype=np.bool_)
    for layer, table in zip(diagram.order, diagram.next, strict=True):
        here = problem.columns.span(layer)
        live[here] = np.asarray((table >= 0).any(axis=0))[diagram.classes[here]]
    return Presolved(problem.only(live), origin[live])
