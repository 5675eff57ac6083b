"""Data of a problem for label setting: order of the layers, resources, and heuristic completions of labels.

A completion has the cheapest columns of all later layers, at each variation of the prices.
Shapes: R rows, W ways (variations of the prices), S states of a stage.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from puzzledsl.search.label_setting.labels import Resources, resources_of
from puzzledsl.search.lagrangian.bound import Bound
from puzzledsl.search.problem.columns import Ints
from puzzledsl.search.problem.instance import Problem, is_unfinished
from puzzledsl.search.problem.paths import paths_of

LARGEST_PLACE = 2**62


@dataclass(frozen=True, slots=True, eq=False)
class Completions:
    """Completions from each stage and state on.

    `use[stage]` [R][W][S] and `goal[stage]` [W][S]: resource use and objective of the completion. `columns[stage]` [W][S]: its
    next column. `then[stage]` [W][S]: the next state.
    """

    use: list[Ints]
    goal: list[Ints]
    columns: list[Ints]
    then: list[Ints]

    def completion(self, way: int, stage: int, state: int) -> list[int]:
        """Return the columns of a completion, in the order of the stages."""
        found = []
        for columns, then in zip(self.columns[stage:], self.then[stage:], strict=True):
            found.append(int(columns[way, state]))
            state = int(then[way, state])
        return found


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
    completions: Completions

    def columns(self, stage: int) -> tuple[int, int]:
        """Return the first column of a stage's layer, and the one after its last."""
        layer, start = self.order[stage], self.problem.columns.start
        return int(start[layer]), int(start[layer + 1])

    def chosen(self, columns: list[int]) -> Ints:
        """Return the columns of all layers, given those of the layers in `order`."""
        chosen = self.problem.columns.start[:-1].copy()
        chosen[self.order] = columns
        return chosen


def layout_of(problem: Problem, bound: Bound, most: int) -> Layout | None:
    """Lay out a problem for sums up to `most`; None if its integers are too large or it has no diagram of its formulas."""
    columns, diagram = problem.columns, problem.diagram
    resources = resources_of(problem, bound, most)
    if resources is None or ((problem.formulas or columns.period) and is_unfinished(diagram)):
        return None
    staged, then = list[int](), list[Ints]()
    if diagram is not None:
        staged, tables = [*diagram.order], zip(diagram.order, diagram.next, strict=True)
        then = [table[:, diagram.classes[columns.span(layer)]] for layer, table in tables]
    order = [*staged, *_order(problem, resources, staged)]
    least = columns.least(problem.goal.values)
    goal = problem.goal.values - np.repeat(least, columns.sizes)
    words = columns.places(LARGEST_PLACE)
    fixed = [int(columns.start[layer]) for layer in set(range(columns.layers)) - set(order)]
    return Layout(
        problem, resources, order, len(staged), then, goal, int(least.sum()), words,
        words[:, fixed].sum(axis=1), diagram is not None and not diagram.feasible,
        completions_of(problem, resources, order, goal),
    )  # fmt: skip


def _order(problem: Problem, resources: Resources, staged: list[int]) -> list[int]:
    """Return the other layers with a choice, near-ties last: by descending distance of their two cheapest columns."""
    columns, priced = problem.columns, resources.deltas[resources.rows]
    open_ = columns.sizes > 1
    open_[staged] = False
    layers = open_.nonzero()[0]
    spans = [np.partition(priced[columns.start[i] : columns.start[i + 1]], 1)[1] for i in layers]
    return [int(layers[i]) for i in np.argsort(-np.array(spans, dtype=np.int64), kind="stable")]


def completions_of(problem: Problem, resources: Resources, order: list[int], goal: Ints) -> Completions:
    """Compute the completions backwards from the last stage. `order`: layers of all stages. `goal[column]`: objective."""
    paths, start = paths_of(problem), problem.columns.start
    priced, rows = resources.deltas[resources.rows :], resources.deltas[: resources.rows]
    staged = 0 if paths is None else len(paths.diagram.order)
    ways = np.arange(len(priced))[:, None]
    use, total = [np.zeros((len(rows), len(priced), 1), np.int64)], [np.zeros((len(priced), 1), np.int64)]
    columns, then = list[Ints](), list[Ints]()

    def put(picked: Ints, after: Ints) -> None:
        use.append(use[-1][:, ways, after] + rows[:, picked])
        total.append(total[-1][ways, after] + goal[picked])
        columns.append(picked)
        then.append(after)

    for layer in reversed(order[staged:]):
        cheapest = start[layer] + priced[:, start[layer] : start[layer + 1]].argmin(axis=1)
        put(cheapest[:, None], np.zeros_like(ways))
    if paths is not None:
        least = paths.least(priced)
        best = paths.best_columns(priced, least)
        for stage in reversed(range(staged)):
            table, span = paths.diagram.next[stage], paths.spans[stage]
            sums = resources.to_end[stage + 1][resources.rows :][:, table] + least[:, None, span]
            picked = sums.argmin(axis=2)
            put(best[ways, span.start + picked], table[np.arange(len(table)), picked])
    return Completions(use[::-1], total[::-1], columns[::-1], then[::-1])
