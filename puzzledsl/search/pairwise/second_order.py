"""Frank-Wolfe (1956) for objectives with pairwise terms: good models with a proven bound, exact if few choices are left.

1. Convex relaxation. Its oracle is the linear search, so each step also finds a model and proves a bound
   (quadratic.py).
2. The best models are improved by swaps of one layer, then of two.
3. Columns with too much slack in the tangent are dropped. If few products of choices are left, CP-SAT solves the rest exactly
   (products.py); otherwise the result has the gap between model and bound.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field, replace
from fractions import Fraction

import numpy as np

from puzzledsl.search.batches.exact import NOTHING, Found, cut_off, meeting_all
from puzzledsl.search.effort import Effort
from puzzledsl.search.lagrangian.bound import lagrangian_bound
from puzzledsl.search.pairwise.products import MOST_PRODUCTS, number_of_products, solve_products
from puzzledsl.search.pairwise.quadratic import (
    POINT_BITS,
    Quadratic,
    Tangent,
    convex_part,
    inside_of,
    quadratic_of,
    tangent_at,
)
from puzzledsl.search.portfolio.minimise import minimise
from puzzledsl.search.problem.box import Box
from puzzledsl.search.problem.columns import Floats, Ints
from puzzledsl.search.problem.instance import INFINITE, Problem
from puzzledsl.search.problem.problem import Problems
from puzzledsl.search.tables import Tables

NAME = "second-order search"
ROUNDS = 24  # most Frank-Wolfe steps
ORACLE_GAP = 1e-4
ORACLE_LABELS = 20_000
ORACLE_WORK = 0.5
ENOUGH = 1e-4  # relative gain of the bound below which the relaxation ends
ROUNDS_AROUND = 8  # most rounds of linear searches around the best model
IMPROVED = 4  # best models from which swaps start
PAIRS = 48  # most promising columns tried in swaps of two layers
MAX_CUTS = 20
MOST_BOXES = 16  # most boxes with several batches that are solved


def second_order(tables: Tables, problems: Problems, number: int, apart: int, effort: Effort) -> list[Found]:
    """Return up to `number` models, any two of which differ in at least `apart` layers, each the best found given those before.

    `proven` is True only if CP-SAT or the bound proved it. The first entry is always present, also if it has no layers.
    """
    effort = replace(effort, seed=0, workers=1)  # unproven answers must not depend on these either
    results: list[Found] = []
    for _ in range(number):
        found = meeting_all(tables, problems, lambda cut: _best_of(tables, cut, effort), MAX_CUTS)
        results.append(found)
        if found.layers is None:
            break
        problems = cut_off(problems, found.layers, max(1, apart))
    return results if len(results) == 1 or results[-1].layers is not None else results[:-1]


def _best_of(tables: Tables, problems: Problems, effort: Effort) -> Found:
    """Run branch and bound over boxes of batches, up to MOST_BOXES with several; the unsolved boxes enter the bound."""
    over = _OverBatches(tables, problems, effort)
    while over.waiting and over.step():
        pass
    bound = min((*over.bounds, *(rank for rank, _, _ in over.waiting)), default=INFINITE)
    known = abs(bound) < INFINITE
    upwards = tables.search.sense == "maximize"
    return replace(over.winner, bound=(-bound if upwards else bound) if known else None, proven=over.proven)


@dataclass(slots=True)
class _OverBatches:
    """Queue of boxes of batches, ordered by lower bounds on their models' ranks, and the best model so far."""

    tables: Tables
    problems: Problems
    effort: Effort
    winner: Found = NOTHING
    proven: bool = True
    best: tuple[Fraction, tuple[int, ...]] | None = None
    left: int = MOST_BOXES
    waiting: list[tuple[Fraction, tuple[int, ...], Box]] = field(default_factory=list)
    bounds: list[Fraction] = field(default_factory=list)
    solved: set[Box] = field(default_factory=set)

    def __post_init__(self) -> None:
        for box in self.problems.boxes:
            self._add(box, -INFINITE)

    def _add(self, box: Box, rank: Fraction) -> None:
        heapq.heappush(self.waiting, (rank, box.low, box))

    def step(self) -> bool:
        """Solve the most promising box. Return False if none can have a better model, or the limits are reached."""
        rank, _, box = self.waiting[0]
        if self.best is not None and rank >= self.best[0]:
            return False
        if not box.is_single and (self.left <= 0 or self.effort.left_s <= 0):
            self.proven = False
            return False
        heapq.heappop(self.waiting)
        if box not in self.solved:
            self.solved.add(box)
            self._solve(box, rank)
        return True

    def _solve(self, box: Box, rank: Fraction) -> None:
        quadratic = quadratic_of(self.tables, self.problems.at(box))
        problem, outcome = quadratic.problem, _Search(quadratic, self.effort).run()
        if outcome.bound is not None:
            rank = max(rank, problem.goal.rank(outcome.bound))
        if box.is_single:
            self._settle(box, problem, outcome, rank)
            return
        self.left -= 1
        if outcome.proven and outcome.chosen is None:
            return
        if outcome.chosen is not None:
            runs_at = self.problems.box_of(problem.choice(outcome.chosen), box)
            if runs_at is not None and box.has(runs_at.lows):
                self._add(runs_at, rank)
        for half in box.halves():
            self._add(half, rank)

    def _settle(self, box: Box, problem: Problem, outcome: _Outcome, rank: Fraction) -> None:
        """Record the bound of a single box, and its model if it is the best so far."""
        self.proven = self.proven and outcome.proven
        if outcome.bound is not None:
            self.bounds.append(rank)
        if outcome.chosen is None or outcome.value is None:
            return
        key = problem.goal.rank(outcome.value), box.low
        if self.best is None or key < self.best:
            self.best = key
            self.winner = Found(problem.choice(outcome.chosen), dict(problem.batches), None, True, NAME, NAME)


@dataclass(frozen=True, slots=True, eq=False)
class _Outcome:
    chosen: Ints | None
    value: int | None
    bound: int | None
    proven: bool


@dataclass(slots=True, eq=False)
class _Search:
    """Search of one quadratic problem. `models`: models found, by their sum. `lower`: lower bound on all sums."""

    quadratic: Quadratic
    effort: Effort
    models: dict[int, Ints] = field(default_factory=dict)
    lower: int | None = None
    best_tangent: Tangent | None = None

    def run(self) -> _Outcome:
        """Solve the relaxation, improve the models found, and try to prove the best."""
        if not self._relax():
            return _Outcome(None, None, None, True)
        for value in sorted(self.models)[:IMPROVED]:
            self._add(improved(self.quadratic, self.models[value]))
        self._search_around_the_best()
        if not self.models:
            return _Outcome(None, None, self.lower, False)
        proven = self._prove()
        value = min(self.models)
        lower = value if proven or self.lower is None else min(self.lower, value)
        close = self._close(value, lower)
        return _Outcome(self.models[value], value, lower, proven or close)

    def _close(self, value: int, lower: int) -> bool:
        goal = self.quadratic.problem.goal
        reached, bound = goal.in_units(value), goal.in_units(lower)
        assert reached is not None and bound is not None
        return value == lower or abs(reached - bound) <= Fraction(self.effort.gap) * abs(reached)

    def _add(self, chosen: Ints) -> None:
        self.models.setdefault(self.quadratic.of(chosen), chosen)

    def _relax(self) -> bool:
        """Run Frank-Wolfe over models. Return False if the problem is proven to have no model."""
        quadratic, part = self.quadratic, convex_part(self.quadratic)
        oracle = self._oracle()
        vertices: list[Ints] = []
        point = np.zeros(quadratic.count, dtype=np.int64)
        for number in range(ROUNDS):
            tangent = tangent_at(quadratic, part, point)
            outcome = minimise(tangent.problem, oracle, canonical=False)
            if outcome.infeasible:
                return False
            before = self.lower
            if outcome.bound is not None and (before is None or outcome.bound - tangent.constant > before):
                self.lower, self.best_tangent = outcome.bound - tangent.constant, tangent
            if outcome.chosen is None or self.effort.left_s <= 0:
                break
            self._add(outcome.chosen)
            vertices.append(outcome.chosen)
            point = self._relaxed_point(vertices, part)
            if (
                number > 3
                and before is not None
                and self.lower is not None
                and self._settled(before, self.lower)
            ):
                break
        return True

    def _settled(self, before: int, after: int) -> bool:
        """True if the bound has reached the best model or rises by no more than ENOUGH."""
        best = min(self.models)
        return after >= best or (0 < after - before <= ENOUGH * max(abs(after), 1) and best - after > 0)

    def _search_around_the_best(self) -> None:
        """Improve the best model by linear searches that price each choice by its pairwise terms with this model.

        The terms count fully or by half. Swaps improve each result.
        """
        oracle = self._oracle()
        for _ in range(ROUNDS_AROUND):
            if not self.models or self.effort.left_s <= 0:
                return
            best = min(self.models)
            pull = self.quadratic.matrix @ self.quadratic.chosen_places(self.models[best])
            for around in (pull // 2, pull):
                goal = self.quadratic.problem.goal
                values = goal.values + self.quadratic.column_values(around)
                problem = replace(self.quadratic.problem, goal=replace(goal, values=values))
                outcome = minimise(problem, oracle, canonical=False)
                if outcome.chosen is not None:
                    self._add(improved(self.quadratic, outcome.chosen))
            if min(self.models) == best:
                return

    def _oracle(self) -> Effort:
        return replace(self.effort, gap=ORACLE_GAP, labels=ORACLE_LABELS, work=ORACLE_WORK)

    def _relaxed_point(self, vertices: list[Ints], part: Ints) -> Ints:
        """Return the convex combination of models with the least relaxed objective, by place, in units of 2^-POINT_BITS."""
        quadratic = self.quadratic
        places = np.array([quadratic.chosen_places(v) for v in vertices], dtype=np.float64)
        matrix = (quadratic.matrix + part).astype(np.float64)
        own = quadratic.problem.goal.values - inside_of(quadratic, part)
        linear = np.array([float(own[v].sum()) for v in vertices]) - places @ (np.diag(part) / 2.0)
        weights = simplex_minimum(places @ matrix @ places.T, linear)
        return np.asarray(np.round(weights @ places * (1 << POINT_BITS)), dtype=np.int64)

    def _prove(self) -> bool:
        """Return True if the best model is proven optimal: by the bound, or by CP-SAT on the columns that the bound leaves."""
        value = min(self.models)
        if self.lower is not None and self.lower >= value:
            return True
        tangent = self.best_tangent
        if tangent is None:
            return False
        room = value + tangent.constant
        keep = lagrangian_bound(tangent.problem).within(room)
        keep[self.models[value]] = True
        inside = self.quadratic.only(keep)
        if number_of_products(inside) > MOST_PRODUCTS:
            return False
        place = (np.cumsum(keep) - 1)[self.models[value]].astype(np.int64)
        cut = tangent.problem.goal.values[keep]
        found = solve_products(inside, cut, room, place, self.lower, self.effort)
        if found.chosen is not None:
            self._add(keep.nonzero()[0][found.chosen].astype(np.int64))
        if found.bound is not None:
            self.lower = found.bound if self.lower is None else max(self.lower, found.bound)
        return found.proven


def simplex_minimum(matrix: Floats, linear: Floats) -> Floats:
    """Minimise `linear . w + w' matrix w / 2` over the simplex (w >= 0, sum 1) by pairwise Frank-Wolfe steps."""
    weights = np.zeros(len(linear))
    weights[int(np.argmin(linear + np.diag(matrix) / 2))] = 1.0
    for _ in range(400):
        slope = linear + matrix @ weights
        down = int(np.argmin(slope))
        up = int(np.argmax(np.where(weights > 0, slope, -np.inf)))
        if slope[up] - slope[down] <= 1e-9 * (1 + abs(slope[down])):
            break
        bend = matrix[up, up] + matrix[down, down] - 2 * matrix[up, down]
        step = weights[up] if bend <= 0 else min(weights[up], (slope[up] - slope[down]) / bend)
        weights[up] -= step
        weights[down] += step
    return weights


# ---------------------------------------------------------------- swaps


def improved(quadratic: Quadratic, chosen: Ints) -> Ints:
    """Improve a model by swaps of one layer's column, then of two layers' at once, while the objective decreases.

    All requirements hold throughout. Deterministic.
    """
    chosen = chosen.copy()
    for _ in range(20 * quadratic.problem.columns.layers):
        if not (_swap_one(quadratic, chosen) or _swap_two(quadratic, chosen)):
            break
    return chosen


def _deltas(quadratic: Quadratic, chosen: Ints) -> Ints:
    """Return the change of the objective when each column replaces the chosen one of its layer, [columns]."""
    pull = quadratic.matrix @ quadratic.chosen_places(chosen)
    values = quadratic.problem.goal.values + quadratic.column_values(pull)
    return np.asarray(values - values[chosen][quadratic.problem.columns.layer_of], dtype=np.int64)


def _uses(problem: Problem, chosen: Ints) -> Ints:
    """Return the change of each row when each column replaces the chosen one of its layer, [rows][columns]."""
    rows = problem.matrix
    return np.asarray(rows - rows[:, chosen][:, problem.columns.layer_of], dtype=np.int64)


def _swap_one(quadratic: Quadratic, chosen: Ints) -> bool:
    problem = quadratic.problem
    deltas, uses = _deltas(quadratic, chosen), _uses(problem, chosen)
    left = problem.limits - problem.matrix[:, chosen].sum(axis=1)
    fits = (uses <= left[:, None]).all(axis=0) & (deltas < 0)
    for column in np.argsort(deltas, kind="stable")[: int(fits.sum()) + len(chosen)].tolist():
        if fits[column] and _take(problem, chosen, {int(problem.columns.layer_of[column]): column}):
            return True
    return False


def _swap_two(quadratic: Quadratic, chosen: Ints) -> bool:
    """Make the best improving swap of two layers, among columns that improve the objective and columns that free resources.

    Return False if there is none. Changes `chosen` in place.
    """
    problem, layer_of = quadratic.problem, quadratic.problem.columns.layer_of
    deltas, uses = _deltas(quadratic, chosen), _uses(problem, chosen)
    left = problem.limits - problem.matrix[:, chosen].sum(axis=1)
    moved = np.setdiff1d(np.arange(len(deltas)), chosen)
    scale = np.maximum(np.abs(uses).max(axis=1, initial=1), 1)
    weight = (uses / scale[:, None]).sum(axis=0)
    gains = moved[np.argsort(deltas[moved], kind="stable")][:PAIRS]
    with np.errstate(divide="ignore", invalid="ignore"):
        rate = np.where(weight < 0, np.maximum(deltas, 0) / -weight, np.inf)
    frees = moved[np.argsort(rate[moved], kind="stable")][: 4 * PAIRS]
    both = deltas[gains][:, None] + deltas[frees][None, :] + _cross(quadratic, chosen, gains, frees)
    fits = (uses[:, gains][:, :, None] + uses[:, frees][:, None, :] <= left[:, None, None]).all(axis=0)
    good = fits & (both < 0) & (layer_of[gains][:, None] != layer_of[frees][None, :])
    order = np.argsort(np.where(good, both, 0), axis=None, kind="stable")[: int(good.sum())]
    for flat in order[:PAIRS].tolist():
        one, two = int(gains[flat // len(frees)]), int(frees[flat % len(frees)])
        if _take(problem, chosen, {int(layer_of[one]): one, int(layer_of[two]): two}):
            return True
    return False


def _cross(quadratic: Quadratic, chosen: Ints, ones: Ints, twos: Ints) -> Ints:
    """Return the interaction of pairs of swaps: the change by both together less the sum of the single changes, [ones][twos]."""

    def change(columns: Ints) -> Ints:
        change = np.zeros((len(columns), quadratic.count), dtype=np.int64)
        for row, column in enumerate(columns.tolist()):
            layer = int(quadratic.problem.columns.layer_of[column])
            change[row, np.unique(quadratic.places[chosen[layer]])] -= 1
            change[row, np.unique(quadratic.places[column])] += 1
        return change

    return np.asarray(change(ones) @ quadratic.matrix @ change(twos).T, dtype=np.int64)


def _take(problem: Problem, chosen: Ints, columns: dict[int, int]) -> bool:
    """Apply swaps to `chosen` in place. Return False, with `chosen` unchanged, if a formula is then violated."""
    before = {layer: int(chosen[layer]) for layer in columns}
    for layer, column in columns.items():
        chosen[layer] = column
    if not problem.formulas or problem.meets_formulas(chosen):
        return True
    for layer, column in before.items():
        chosen[layer] = column
    return False
