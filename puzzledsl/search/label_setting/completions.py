"""Heuristic completions of labels: the cheapest columns of all later layers, at each variation of the prices.

Shapes: R rows, W ways (variations of the prices), S states of a stage.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from puzzledsl.search.label_setting.resources import Resources
from puzzledsl.search.problem.columns import Ints
from puzzledsl.search.problem.instance import Problem
from puzzledsl.search.problem.paths import paths_of


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


def completions_of(problem: Problem, resources: Resources, order: list[int], goal: Ints) -> Completions:
    """Compute the completions backwards from the last stage. `order`: layers of all stages. `goal[column]`: objective."""
    paths = paths_of(problem)
    priced, rows = resources.deltas[resources.rows :], resources.deltas[: resources.rows]
    staged = 0 if paths is None else len(paths.diagram.order)
    rest = _free(problem, priced, rows, order[staged:], goal)
    use, total = rest.use[-1], rest.goal[-1]
    if paths is not None:
        least = paths.least(priced)
        best = paths.best_columns(priced, least)
        lines = np.arange(len(priced))[:, None]
        for stage in reversed(range(staged)):
            table, span = paths.diagram.next[stage], paths.spans[stage]
            sums = resources.to_end[stage + 1][resources.rows :][:, table] + least[:, None, span]
            picked = sums.argmin(axis=2)
            columns = best[lines, span.start + picked]
            then = table[np.arange(len(table)), picked]
            use = use[:, lines, then] + rows[:, columns]
            total = total[lines, then] + goal[columns]
            _put(rest, use, total, columns, then)
    return Completions(rest.use[::-1], rest.goal[::-1], rest.columns[::-1], rest.then[::-1])


def _free(problem: Problem, priced: Ints, rows: Ints, layers: list[int], goal: Ints) -> Completions:
    """Return the completions through layers without a diagram, which have a single state; last stage first."""
    start = problem.columns.start
    columns = np.zeros((len(layers), len(priced)), dtype=np.int64)
    for stage, layer in enumerate(reversed(layers)):
        columns[stage] = start[layer] + np.argmin(priced[:, start[layer] : start[layer + 1]], axis=1)
    use = np.zeros((len(layers) + 1, len(rows), len(priced), 1), dtype=np.int64)
    total = np.zeros((len(layers) + 1, len(priced), 1), dtype=np.int64)
    np.cumsum(rows[:, columns].transpose(1, 0, 2), axis=0, out=use[1:, :, :, 0])
    np.cumsum(goal[columns], axis=0, out=total[1:, :, 0])
    steps = [*columns[:, :, None]]
    return Completions([*use], [*total], steps, [np.zeros_like(step) for step in steps])


def _put(rest: Completions, use: Ints, goal: Ints, columns: Ints, then: Ints) -> None:
    rest.use.append(use)
    rest.goal.append(goal)
    rest.columns.append(columns)
    rest.then.append(then)
