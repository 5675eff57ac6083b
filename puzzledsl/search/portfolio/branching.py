"""Best-first branch and bound over the classes of columns in a decision diagram.

The Lagrangian bound is that of a mixture of paths. Where formulas link many layers, a mixture of two very different paths can be
far better than any single path. Branching halves the classes of the layer in which cheap paths differ most, and computes new
prices for each half. Label setting tries to finish each node before it is split.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field, replace

import numpy as np

from puzzledsl.search.label_setting.labels import Resources
from puzzledsl.search.label_setting.sweep import Sweep, sweep_of
from puzzledsl.search.lagrangian.bound import Bound, lagrangian_bound
from puzzledsl.search.portfolio.label_setting import beam
from puzzledsl.search.portfolio.ledger import Ledger
from puzzledsl.search.problem.columns import Ints, Mask
from puzzledsl.search.problem.instance import Problem, presolve
from puzzledsl.search.problem.paths import paths_of

NAME = "branch and bound"
LABELS = 20_000  # labels of a node before it is split
A_NODE = 10_000  # work of bounding a node, in labels


@dataclass(frozen=True, slots=True, eq=False)
class _Node:
    """A restriction of the problem, with the ledger's numbers of its columns, and its `sweep` if no layer is left to split."""

    problem: Problem
    origin: Ints
    bound: Bound
    sweep: Sweep | None = None


@dataclass(slots=True, eq=False)
class Branching:
    """The branch-and-bound engine of the portfolio, for problems whose diagram has stages (else `usable` is False)."""

    ledger: Ledger
    waiting: list[tuple[int, int, _Node]] = field(default_factory=list)
    made: int = 0
    usable: bool = True

    def __post_init__(self) -> None:
        problem = self.ledger.problem
        self.usable = paths_of(problem) is not None
        if self.usable:
            bound = self.ledger.bound
            self._put(_Node(problem, np.arange(len(problem.columns)), bound), bound.value)

    def run(self, labels: int) -> bool:
        """Process nodes for work worth `labels` labels. Return True if the ledger's answer is then proven."""
        ledger = self.ledger
        while self.usable and self.waiting and labels > 0 and ledger.effort.left_s > 0:
            bound, _, node = heapq.heappop(self.waiting)
            if bound > ledger.most:
                self.waiting = []
                break
            ledger.raise_lower(bound, NAME)
            if ledger.effort.gap and ledger.close_enough():
                return True
            sweep = node.sweep
            labels -= self._follow(node) if sweep is None else self._finish(node, sweep, bound, labels)
        if not self.usable or self.waiting:
            return False
        if ledger.value is not None:
            ledger.raise_lower(ledger.value, NAME)
        return True

    def _put(self, node: _Node, bound: int) -> None:
        self.made += 1
        heapq.heappush(self.waiting, (bound, self.made, node))

    def _follow(self, node: _Node) -> int:
        """Finish a node by label setting, or split it. Return the work in labels."""
        ledger = self.ledger
        keep = node.bound.within(ledger.most)
        problem, origin = node.problem.only(keep), node.origin[keep]
        used = beam(ledger, problem, node.bound, origin, NAME) if ledger.value is None else 0
        deadline = ledger.effort.deadline
        sweep = sweep_of(problem, node.bound, ledger.most, ledger.value, deadline=deadline)
        if sweep is None:
            self._put(node, node.bound.value)
            self.usable = False
            return 0
        swept = sweep.run(LABELS)
        ledger.take(swept, origin, NAME)
        used += sweep.done
        if swept.proven:
            return used
        parts = _halves(problem, sweep.resources)
        if parts is None or ledger.effort.left_s <= 0:
            self._put(replace(node, problem=problem, origin=origin, sweep=sweep), node.bound.value)
            return used
        for part in parts:
            solved = presolve(problem.only(part), quick=True) if problem.columns.covers(part) else None
            if solved is None:
                continue
            bound = lagrangian_bound(solved.problem, node.bound.float_prices)
            if not bound.infeasible and bound.value <= ledger.most:
                self._put(_Node(solved.problem, origin[part][solved.origin], bound), bound.value)
        return used + 2 * A_NODE

    def _finish(self, node: _Node, sweep: Sweep, bound: int, labels: int) -> int:
        """Continue the label setting of a node without a layer to split. Return the work in labels."""
        before = sweep.done
        if self.ledger.value is not None:
            sweep.tighten(self.ledger.value)
        swept = sweep.run(labels)
        self.ledger.take(swept, node.origin, NAME)
        if not swept.proven:
            self._put(node, max(bound, swept.bound or bound))
            self.usable = not sweep.is_full
        return max(sweep.done - before, 1)


def _halves(problem: Problem, resources: Resources) -> tuple[Mask, Mask] | None:
    """Return masks without the upper and the lower classes, by use, of the layer where cheap paths differ most; or None."""
    paths = paths_of(problem)
    if paths is None:
        return None
    diagram, rows = paths.diagram, resources.rows
    stages = [stage for stage, table in enumerate(diagram.next) if table.shape[1] > 1]
    if not stages:
        return None
    use = (resources.weights @ resources.deltas[:rows]).astype(np.float64)
    priced, to_end = resources.deltas[rows:], [part[rows:] for part in resources.to_end]
    cheap = paths.cheapest(priced, paths.least(priced), to_end)[:, list(diagram.order)]
    spread, taken = use[cheap].std(axis=0), diagram.classes[cheap]
    differs = (taken != taken[:1]).any(axis=0)
    stage = min(stages, key=lambda stage: (not differs[stage], -spread[stage], stage))
    here = problem.columns.span(diagram.order[stage])
    classes = diagram.classes[here]
    means = np.array([use[here][classes == c].mean() for c in range(int(classes.max()) + 1)])
    order = np.argsort(means, kind="stable")
    rank = np.argsort(order)
    at = np.unique(rank[np.unique(taken[:, stage])])
    cut = min(int(at[max(len(at) - 1, 0) // 2]), len(order) - 2)
    first, second = np.ones((2, len(problem.columns)), dtype=np.bool_)
    first[here], second[here] = rank[classes] <= cut, rank[classes] > cut
    return first, second
