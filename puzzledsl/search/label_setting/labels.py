"""Labels of a sweep (partial assignments) as arrays, dominance among them, and the resources that limit them, in exact integers.

Resources are the rows, and several priced objectives as surrogate constraints (Glover 1968): an answer with an objective up to
`most` satisfies every row, and so  objective + prices . rows <= most + prices . limits. For free layers, those without a stage in
the decision diagram, each layer's least value is subtracted, so every sum only grows along them; for stages, the least completion
from a state is added instead. So a label above a limit is part of no such answer.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from puzzledsl.search.lagrangian.bound import Bound, precision
from puzzledsl.search.problem.columns import Floats, Ints, Mask, mixed
from puzzledsl.search.problem.instance import Problem, is_unfinished, paths_of

# Logarithmic variations of the prices: after some layers, other prices are best for the rest of the budgets.
SPREADS = (0.1, 0.3)
MOST_VARIED = 7  # prices that vary: the patterns of more would take more time a label than they save
LARGEST_PLACE = 2**62
MANY = 4000  # number of models up to which one operation for all rows is faster
Short = NDArray[np.int32]
Indices = NDArray[np.int32] | NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Resources:
    """Resources of labels: the first `rows` are rows, the others priced objectives, the one at the bound's prices first.

    `deltas[resource][column]`: amount that a column adds, least 0 in every free layer. `limits[resource]`: for objectives up to
    `most`. `scales[i]`, `prices[i][row]`: weights in priced objective i. `to_end[stage][resource][state]`: least amount ahead.
    """

    deltas: Ints
    limits: Ints
    rows: int
    scales: Ints
    most: int
    prices: Ints
    to_end: list[Ints]

    @property
    def room(self) -> Ints:
        """Limit on the amount that the free layers add, [resource]; negative if there is no answer."""
        return np.asarray(self.limits - self.to_end[0][:, 0] if self.to_end else self.limits)

    def ahead(self, stage: int, states: Ints) -> Ints | int:
        """Return the least amounts that the stages from `stage` on add to labels in `states`, [resource][label]; at the end 0."""
        return self.to_end[stage].take(states, axis=1) if stage < len(self.to_end) - 1 else 0

    @property
    def weights(self) -> Ints:
        """Weight of each row in the first priced objective, [rows]."""
        return np.asarray(self.prices[0])

    def extended(self, begin: int, end: int, sums: Ints, most: int) -> tuple[Short, Short] | None:
        """Extend suffixes by columns `begin` to `end - 1`. Return (columns, suffixes) within limits; None if over `most`."""
        main, limits = self.rows, self.room
        column, suffix = (self.deltas[main, begin:end, None] + sums[main] <= limits[main]).nonzero()
        for resource in range(len(limits)):
            fits = self.deltas[resource, begin:end][column] + sums[resource][suffix] <= limits[resource]
            column, suffix = column[fits], suffix[fits]
        if len(column) > most:
            return None
        column += begin
        return column.astype(np.int32), suffix.astype(np.int32)

    def at(self, most: int) -> Resources:
        """Return the resources with limits for objectives up to `most`."""
        limits = self.limits.copy()
        limits[self.rows :] -= self.scales * (self.most - most)
        return replace(self, limits=limits, most=most)


def resources_of(problem: Problem, bound: Bound, most: int) -> Resources | None:
    """Build the resources of a problem at and around the bound's prices; None if they do not fit into 64 bits."""
    columns, paths = problem.columns, paths_of(problem)
    free = np.ones(columns.layers, dtype=np.bool_)
    free[list(paths.diagram.order) if paths is not None else []] = False
    deltas, limits, kept = [], [], []
    for number, (row, limit) in enumerate(zip(problem.matrix, problem.limits, strict=True)):
        least = np.where(free, columns.least(row), 0)
        lifted = row - np.repeat(least, columns.sizes)
        if bound.prices[number] or columns.most(lifted).sum() > limit - least.sum():  # else it always holds
            deltas.append(lifted)
            limits.append(limit - least.sum())
            kept.append(number)
    rows = len(deltas)
    prices = np.array([*variations(bound.float_prices, problem.row_sizes)])
    bits, fits = precision(problem, prices)
    prices, scales = prices[fits], 1 << bits[fits]
    if not len(prices):
        return None
    whole = np.rint(prices * scales[:, None]).astype(np.int64)  # a power of two times a float is exact
    priced = problem.goal.values * scales[:, None] + whole @ problem.matrix
    least = np.where(free, columns.least(priced), 0)
    priced -= np.repeat(least, columns.sizes, axis=1)
    ends = scales * most + whole @ problem.limits - least.sum(axis=1)
    values = np.vstack([*deltas, priced])
    return Resources(
        values,
        np.concatenate([limits, ends]).astype(np.int64),
        rows,
        scales,
        most,
        whole[:, np.array(kept, dtype=np.int64)],
        [] if paths is None else paths.to_end(paths.least(values)),
    )


def variations(prices: Floats, sizes: Floats) -> Iterator[Floats]:
    """Yield the prices, then variations: each weighty one larger or smaller, in the sign patterns of a Hadamard matrix."""
    yield prices
    priced = prices.nonzero()[0]
    if len(priced) > MOST_VARIED:
        priced = np.sort(priced[np.argsort(-(prices * sizes)[priced], kind="stable")[:MOST_VARIED]])
    signs = np.ones((1, 1))
    while len(signs) <= len(priced):
        signs = np.block([[signs, signs], [signs, -signs]])
    patterns = signs[:, 1 : len(priced) + 1]
    if len(priced):
        for spread in SPREADS:
            for pattern in (*patterns, *-patterns):
                varied = prices.copy()
                varied[priced] *= np.exp(spread * pattern)
                yield varied


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """Data of a problem for label setting.

    `order`: the layers of the decision diagram's `stages`, then the other layers with a choice, clearest choices first.
    `goal[column]`: objective above the layer's least; `floor`: sum of the least ones. `then[stage][state][column]`: next state.
    `words[word][column]`: place in the order of the space; `first_words`: those of the layers without a choice.
    `hopeless`: no choice satisfies the formulas.
    """

    problem: Problem
    resources: Resources
    order: list[int]
    stages: int
    then: list[Ints]
    goal: Ints
    floor: int
    words: Ints
    first_words: Ints
    hopeless: bool

    @classmethod
    def of(cls, problem: Problem, bound: Bound, most: int) -> Layout | None:
        """Lay out a problem for sums up to `most`; None if its integers are too large or it has no diagram of its formulas."""
        columns, diagram = problem.columns, problem.diagram
        resources = resources_of(problem, bound, most)
        if resources is None or ((problem.formulas or columns.period) and is_unfinished(diagram)):
            return None
        staged, then = list[int](), list[Ints]()
        if diagram is not None:
            staged, tables = [*diagram.order], zip(diagram.order, diagram.next, strict=True)
            then = [table[:, diagram.classes[columns.span(layer)]] for layer, table in tables]
        open_, priced = columns.sizes > 1, resources.deltas[resources.rows]
        open_[staged] = False
        layers = open_.nonzero()[0].tolist()  # near-ties last: by descending distance of two cheapest columns
        spans = [np.partition(priced[columns.span(layer)], 1)[1] for layer in layers]
        order = [*staged, *(layers[i] for i in np.argsort(-np.array(spans, dtype=np.int64), kind="stable"))]
        least = columns.least(problem.goal.values)
        goal = problem.goal.values - np.repeat(least, columns.sizes)
        words = columns.places(LARGEST_PLACE)
        fixed = [int(columns.start[layer]) for layer in set(range(columns.layers)) - set(order)]
        return cls(
            problem, resources, order, len(staged), then, goal, int(least.sum()), words,
            words[:, fixed].sum(axis=1), diagram is not None and not diagram.feasible,
        )  # fmt: skip

    def columns(self, stage: int) -> tuple[int, int]:
        """Return the first column of a stage's layer, and the one after its last."""
        layer, start = self.order[stage], self.problem.columns.start
        return int(start[layer]), int(start[layer + 1])

    def chosen(self, columns: list[int]) -> Ints:
        """Return the columns of all layers, given those of the layers in `order`."""
        chosen = self.problem.columns.start[:-1].copy()
        chosen[self.order] = columns
        return chosen


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """Last step of each label or suffix: its `column`, the number of the one it extends (`before`), and `last`, their step."""

    before: Short
    column: Short
    last: Step | None

    def columns(self, labels: Indices) -> Ints:
        """Return the columns of some labels, [step][label], last step first."""
        found: list[Ints] = []
        step: Step | None = self
        while step is not None:
            found.append(step.column[labels].astype(np.int64))
            labels, step = step.before[labels], step.last
        return np.array(found)


@dataclass(frozen=True, slots=True, eq=False)
class Labels:
    """Labels over the first `stage` layers of a layout's order.

    `sums[resource][label]`; `goal[label]`: objective; `words[word][label]`: place in the order of the space;
    `states[label]`: state of the decision diagram, 0 after its last stage; `step`: how to read back the columns.
    """

    stage: int
    sums: Ints
    goal: Ints
    words: Ints
    states: Ints
    step: Step | None

    def __len__(self) -> int:
        return len(self.goal)

    def only(self, keep: Ints | Mask) -> Labels:
        """Return a subset of the labels, in the order of `keep`."""
        step = self.step and Step(self.step.before[keep], self.step.column[keep], self.step.last)
        states = self.states[keep]
        return Labels(self.stage, self.sums[:, keep], self.goal[keep], self.words[:, keep], states, step)

    def best(self, rows: int, staged: bool) -> Ints:
        """Return the numbers of the best labels for each row use and, if `staged`, state; with one row, by `best_so_far`."""
        if rows == 1:
            return best_so_far(self.sums[0], self.states, self.goal, self.words)
        keys = [self.sums[:rows], self.states[None, :]] if staged else [self.sums[:rows]]
        return best_of_each(np.vstack(keys), self.goal, self.words)

    def columns(self, label: int) -> list[int]:
        """Return the columns of one label, first layer of the order first."""
        return [] if self.step is None else self.step.columns(np.array([label]))[::-1, 0].tolist()


def added(values: Ints, sums: Ints, column: Indices, model: Indices) -> Ints:
    """Return `values[:, column] + sums[:, model]`, row by row to save memory if there are many."""
    if len(column) < MANY:
        return np.asarray(sums.take(model, axis=1) + values.take(column, axis=1))
    after = np.empty((len(sums), len(column)), dtype=np.int64)
    for line, own, before in zip(after, values, sums, strict=True):
        np.take(before, model, out=line, mode="clip")
        line += own[column]
    return after


def best_of_each(keys: Ints, goal: Ints, places: Ints) -> Ints:
    """Return the best labels, by objective, then place, of each group of equal keys [key][label]; all if hashes collide."""
    numbers = mixed(keys)
    order = np.argsort(numbers, kind="stable")
    new = np.concatenate([[True], numbers[order][1:] != numbers[order][:-1]])
    group, starts = np.cumsum(new) - 1, new.nonzero()[0]
    if len(starts) == len(order):
        return np.arange(len(goal))
    for key in keys:
        ordered = key[order]
        if (ordered[1:] != ordered[:-1])[~new[1:]].any():  # hash collision
            return np.arange(len(goal))
    goals = goal[order]
    best = goals == np.minimum.reduceat(goals, starts)[group]
    if int(best.sum()) > len(starts):
        tied = best.nonzero()[0]
        ranked = tied[np.lexsort((*places[::-1, order[tied]], group[tied]))]
        first = np.concatenate([[True], group[ranked][1:] != group[ranked][:-1]])
        return np.sort(order[ranked[first]])
    return np.sort(order[best])


def best_so_far(use: Ints, states: Ints, goal: Ints, places: Ints) -> Ints:
    """Return the labels that are better, by objective, then place, than all of their state that use as little or less."""
    models = len(goal)
    rank = np.empty(models, dtype=np.int64)
    rank[np.lexsort((*places[::-1], goal))] = np.arange(models)
    order = np.lexsort((rank, use, states))
    ranked = rank[order] - models * states[order]  # each state's are below those of the states before
    least = np.minimum.accumulate(ranked)
    new = np.concatenate([[True], least[1:] < least[:-1]])
    return np.sort(order[new])
