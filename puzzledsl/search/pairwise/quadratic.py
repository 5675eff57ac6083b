"""Objective with pairwise terms: `linear + sum over pairs of places of value * (both chosen)`, in integers.

A place is a (layer, sub-block, alternative), or a layer's pair of alternatives if these are scored together. Numbers are rounded
down to one unit, so the integers are never above the exact objective, and a lower bound on them is one on it.

The bound comes from convexity. A choice y is 0 or 1, so y*y = y, and the objective equals

    f(y) = (linear - d/2) . y + 1/2 y' H y,   H = the pairwise values with a part inside layers, d its diagonal

for any such part (`convex_part` chooses it). If H is positive semidefinite, f lies above each of its tangents. Tangents are
linear: the linear search proves its least value over all feasible models, which is a lower bound on the quadratic objective.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from puzzledsl.ir.nodes import ScoreTerm
from puzzledsl.ir.tables import PairwiseTerm
from puzzledsl.search.problem.columns import Floats, Ints, Mask
from puzzledsl.search.problem.instance import Goal, Problem
from puzzledsl.search.tables import Tables

Place = tuple[int, str, str]
MOST_BITS = 44  # bits of the whole objective; leaves room for tangents at points in units of 2^-POINT_BITS
POINT_BITS = 10
SAFE = 2.0**-50  # bound on the relative difference between a float and its decimal
THIRDS = 5  # steps of the ternary search for the share of the convex part
LEAST_WEIGHT = 1e-2  # least weight of a place when the diagonal is lifted, as a share of the mean
MOST_SCALE = 100  # most bits of the scale


@dataclass(frozen=True, eq=False)
class Quadratic:
    """A problem with a quadratic objective, whose linear part is `problem.goal`.

    `places[column]`: the two places of a column (twice the same if blocks are scored). `matrix`: symmetric pairwise values, 0 on
    the diagonal and between places of one layer, whose values are in the linear part.
    """

    problem: Problem
    places: Ints  # [columns][2]
    count: int  # number of places
    matrix: Ints  # [places][places]

    def chosen_places(self, chosen: Ints) -> Ints:
        """Return the indicator vector [places] of the places that a model has."""
        y = np.zeros(self.count, dtype=np.int64)
        y[self.places[chosen].ravel()] = 1
        return y

    def of(self, chosen: Ints) -> int:
        """Return the quadratic sum of chosen columns, one for each layer."""
        y = np.unique(self.places[chosen].ravel())
        return self.problem.goal.of(chosen) + int(self.matrix[np.ix_(y, y)].sum()) // 2

    def column_values(self, by_place: Ints) -> Ints:
        """Return, for each column, the sum of `by_place` over its places."""
        first, second = self.places.T
        return np.asarray(by_place[first] + np.where(second != first, by_place[second], 0), dtype=np.int64)

    def with_rows(self, *rows: object) -> Quadratic:
        """Return the quadratic problem with additional rows."""
        return replace(self, problem=self.problem.with_rows(*rows))  # type: ignore[arg-type]

    def only(self, keep: Mask) -> Quadratic:
        """Return the quadratic problem on the columns in `keep`."""
        return replace(self, problem=self.problem.only(keep), places=self.places[keep])


def quadratic_of(tables: Tables, problem: Problem) -> Quadratic:
    """Add the pairwise terms of a search's objective to a problem with its linear part, in one common unit."""
    index, places = _places(problem, _whole_blocks(tables))
    upper = np.zeros((len(index), len(index)))
    own = np.zeros(len(problem.columns))
    sign = -1.0 if tables.search.sense == "maximize" else 1.0
    for factor, term in _terms(tables):
        one = index.get((term.layer, term.sub_block, term.name))
        two = index.get((term.other_layer, term.other_sub_block, term.other_name))
        if one is None or two is None:
            continue
        value = sign * factor * term.value
        if term.layer == term.other_layer:
            own[(places[:, 0] == one) & (places[:, 1] == two)] += value
        else:
            upper[min(one, two), max(one, two)] += value
    goal = problem.goal
    largest = _most(upper, list(index)) + float(problem.columns.most(np.abs(own)).sum())
    largest += float(goal.unit) * float(problem.columns.most(np.abs(goal.values)).sum())
    scale = 2 ** min(MOST_SCALE, max(0, MOST_BITS - int(np.ceil(np.log2(max(largest, 1e-300))))))
    linear = [(v * goal.unit.numerator * scale) // goal.unit.denominator for v in goal.values.tolist()]
    values = np.array(linear, dtype=np.int64) + _floor(own, scale)
    whole = Goal(values, Fraction(1, scale), goal.constant, goal.sign, goal.upwards, False)
    matrix = _floor(upper, scale)
    return Quadratic(replace(problem, goal=whole, preferences=()), places, len(index), matrix + matrix.T)


def _most(upper: Floats, places: list[Place]) -> float:
    """Return an upper bound on a model's pairwise terms: the sum of the largest value of each pair of sub-blocks."""
    groups = [(layer, sub_block) for layer, sub_block, _ in places]
    starts = [i for i, group in enumerate(groups) if i == 0 or group != groups[i - 1]]
    largest = np.maximum.reduceat(np.maximum.reduceat(np.abs(upper), starts, axis=0), starts, axis=1)
    return float(largest.sum())


def _floor(values: Floats, scale: int) -> Ints:
    """Scale and round down, so that results are not above the exact decimals; 0 stays 0."""
    scaled = values * float(scale)
    return np.asarray(np.floor(scaled - np.abs(scaled) * SAFE), dtype=np.int64)


def _terms(tables: Tables) -> Iterator[tuple[float, PairwiseTerm]]:
    for weighted in tables.search.objective.terms:
        if isinstance(weighted.term, ScoreTerm):
            for term in tables.scores[weighted.term.score].pairwise:
                yield float(weighted.coefficient), term


def _whole_blocks(tables: Tables) -> bool:
    """True if the pairwise terms are between whole blocks."""
    return any(term.sub_block == "block" for _, term in _terms(tables))


def _places(problem: Problem, whole: bool) -> tuple[dict[Place, int], Ints]:
    """Number all places, by layer, attention before FFN; also return the places of each column, [columns][2]."""
    index: dict[Place, int] = {}
    found = []
    for layer, choice in zip(problem.columns.layer_of.tolist(), problem.columns.choices, strict=True):
        if whole:
            ends = [(layer, "block", f"{choice.attention}/{choice.ffn}")] * 2
        else:
            ends = [(layer, "attention", choice.attention), (layer, "ffn", choice.ffn)]
        found.append(ends)
    for place in sorted({p for ends in found for p in ends}):
        index[place] = len(index)
    return index, np.array([[index[p] for p in ends] for ends in found], dtype=np.int64)


# ---------------------------------------------------------------- convexity


def convex_part(quadratic: Quadratic) -> Ints:
    """Choose values inside layers, [places][places], that make the whole matrix positive semidefinite.

    These values are free: two alternatives of one sub-block are never chosen together, and `tangent_at` subtracts the others
    again. The better they continue the matrix between layers, the better the bound. If values are covariances, the diagonal has
    the variances (twice a choice's own score), and the correlation of two alternatives of a layer is estimated from their
    covariances with all other layers.
    """
    count = quadratic.count
    own = np.full(count, np.inf)
    layer = np.zeros(count, dtype=np.int64)
    for column in range(2):
        here = quadratic.places[:, column]
        np.minimum.at(own, here, 2.0 * np.maximum(quadratic.problem.goal.values, 0))
        layer[here] = quadratic.problem.columns.layer_of
    own[~np.isfinite(own)] = 0.0
    rows = quadratic.matrix.astype(np.float64)
    lengths = np.sqrt((rows**2).sum(axis=1))
    safe = np.where(lengths > 0, lengths, 1.0)
    alike = (rows / safe[:, None]) @ (rows / safe[:, None]).T
    inside = layer[:, None] == layer[None, :]
    part = np.where(inside, np.clip(alike, -1, 1) * np.sqrt(np.outer(own, own)), 0.0)
    np.fill_diagonal(part, own)
    weight = np.maximum(own, max(float(own.mean()) * LEAST_WEIGHT, 1.0)) if count else own
    root = np.sqrt(weight)
    scaled, inner = rows / np.outer(root, root), part / np.outer(root, root)
    part = part * _best_share(scaled, inner)
    least = _least_eigenvalue((rows + part) / np.outer(root, root))
    part = np.round(part)
    lift = np.ceil(weight * max(0.0, -least) + _margin(rows + part))
    np.fill_diagonal(part, np.diag(part) + lift)
    return np.asarray(part, dtype=np.int64)


def _best_share(between: Floats, inside: Floats) -> float:
    """Return the share of `inside` in [0, 1] that minimises the share plus the necessary lift, by ternary search (it is convex).

    A smaller diagonal gives a better bound, because it is subtracted from the linear part, whose own bound is tight.
    """

    def total(share: float) -> float:
        return share - min(0.0, _least_eigenvalue(between + share * inside))

    low, high = 0.0, 1.0
    for _ in range(THIRDS):
        left, right = (2 * low + high) / 3, (low + 2 * high) / 3
        low, high = (low, right) if total(left) <= total(right) else (left, high)
    return (low + high) / 2


def _least_eigenvalue(matrix: Floats) -> float:
    return float(np.linalg.eigvalsh(matrix)[0]) if len(matrix) else 0.0


def _margin(matrix: Floats) -> float:
    """Return an upper bound on the decrease of the least eigenvalue by rounding to integers and by floating-point error."""
    largest = float(np.abs(matrix).sum(axis=0).max(initial=0))
    return len(matrix) * (1.0 + 100 * float(np.finfo(np.float64).eps) * largest)


@dataclass(frozen=True, eq=False)
class Tangent:
    """Linear underestimator of the quadratic objective: f >= sum of `problem` - `constant`."""

    problem: Problem
    constant: int


def tangent_at(quadratic: Quadratic, part: Ints, point: Ints) -> Tangent:
    """Return the tangent at `point`, the shares of the places in units of 2^-POINT_BITS. Rounded so that it stays valid."""
    one = 1 << POINT_BITS
    pull = (quadratic.matrix + part) @ point
    slope = np.floor_divide(pull, one) - (np.diag(part) + 1) // 2
    curve = sum(int(a) * int(b) for a, b in zip(pull.tolist(), point.tolist(), strict=True))
    goal = quadratic.problem.goal
    values = goal.values + quadratic.column_values(slope) - inside_of(quadratic, part)
    problem = replace(quadratic.problem, goal=replace(goal, values=values))
    return Tangent(problem, -(-curve // (2 * one * one)))


def inside_of(quadratic: Quadratic, part: Ints) -> Ints:
    """Return the convex part's value between each column's two places, which is not part of the objective."""
    first, second = quadratic.places.T
    return np.asarray(np.where(first != second, part[first, second], 0), dtype=np.int64)
