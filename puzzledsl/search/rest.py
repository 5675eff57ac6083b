"""Completions of partial models: the cheapest columns of all layers still to come, at each variation of the prices.

Shapes: R rows, W ways (variations of the prices), S states of a stage.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from puzzledsl.search.instance import Ints, Problem
from puzzledsl.search.meters import Meters
from puzzledsl.search.paths import paths_of


@dataclass(frozen=True, slots=True, eq=False)
class Rest:
    """From each stage and state on: `use[stage]` [R][W][S] and `goal[stage]` [W][S] are what the completion adds,
    `columns[stage]` [W][S] is its next column, `then[stage]` [W][S] the state after it."""

    use: list[Ints]
    goal: list[Ints]
    columns: list[Ints]
    then: list[Ints]

    def completion(self, way: int, stage: int, state: int) -> list[int]:
        """The columns of a completion, in the order of the stages."""
        found = []
        for columns, then in zip(self.columns[stage:], self.then[stage:], strict=True):
            found.append(int(columns[way, state]))
            state = int(then[way, state])
        return found


def rest_of(problem: Problem, meters: Meters, order: list[int], goal: Ints) -> Rest:
    """The completions, added up from the last stage. `order`: the layers of all stages; `goal`: of each column."""
    start, paths = problem.columns.start, paths_of(problem)
    priced, rows = meters.deltas[meters.rows :], meters.deltas[: meters.rows]
    ways, staged = len(priced), 0 if paths is None else len(paths.diagram.order)
    use, total = np.zeros((len(rows), ways, 1), np.int64), np.zeros((ways, 1), np.int64)
    rest = Rest([use], [total], [], [])
    for layer in reversed(order[staged:]):
        begin, end = int(start[layer]), int(start[layer + 1])
        columns = begin + np.argmin(priced[:, begin:end], axis=1)[:, None]
        use, total = use + rows[:, columns], total + goal[columns]
        _put(rest, use, total, columns, np.zeros_like(columns))
    if paths is not None:
        least = paths.least(priced)
        best = paths.best_columns(priced, least)
        lines = np.arange(ways)[:, None]
        for stage in reversed(range(staged)):
            table, span = paths.diagram.next[stage], paths.spans[stage]
            sums = meters.to_end[stage + 1][meters.rows :][:, table] + least[:, None, span]
            picked = sums.argmin(axis=2)
            columns = best[lines, span.start + picked]
            then = table[np.arange(len(table)), picked]
            use = use[:, lines, then] + rows[:, columns]
            total = total[lines, then] + goal[columns]
            _put(rest, use, total, columns, then)
    return Rest(rest.use[::-1], rest.goal[::-1], rest.columns[::-1], rest.then[::-1])


def _put(rest: Rest, use: Ints, goal: Ints, columns: Ints, then: Ints) -> None:
    rest.use.append(use)
    rest.goal.append(goal)
    rest.columns.append(columns)
    rest.then.append(then)
