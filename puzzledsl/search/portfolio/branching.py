"""The engines on labels, and the ledger of incumbent and proven lower bound that all engines share.

Iterative deepening of label setting: the limit on the objective grows, so the first answer found is the best. Best-first branch
and bound over the classes of columns in a decision diagram: a relaxed mixture of two very different paths can be far better than
any single path. So branching halves the classes of the layer in which cheap paths differ most, with new prices for each half.
"""

import heapq
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import partial

import numpy as np

from puzzledsl.search.label_setting.labels import Resources
from puzzledsl.search.label_setting.sweep import Sweep, sweep_of
from puzzledsl.search.lagrangian.bound import Bound, lagrangian_bound
from puzzledsl.search.problem.columns import Ints, Mask
from puzzledsl.search.problem.instance import Effort, Goal, Outcome, Problem, paths_of, presolve


class Ledger:
    """State of a search: best answer `chosen` of sum `value`, bound `lower`, and `top`, the largest sum that counts."""

    def __init__(
        self, problem: Problem, bound: Bound, effort: Effort, lower: int, at_most: int | None
    ) -> None:
        self.problem, self.bound, self.effort = problem, bound, effort
        self.lower, self.at_most = lower, at_most
        self.top = problem.largest_sum if at_most is None else min(problem.largest_sum, at_most)
        self.chosen: Ints | None = None
        self.value: int | None = None
        self.found_by = ""
        self.lower_by = "Lagrangian bound"

    def better(self, chosen: Ints, value: int, by: str) -> None:
        """Keep an answer if it is better than the incumbent, or as good and before it in the order of the space."""
        if self.at_most is not None and value > self.at_most:
            return
        best = None if self.chosen is None else (self.value, *self.chosen.tolist())
        if best is not None and (value, *chosen.tolist()) >= best:
            return
        if self.value is None or value < self.value:
            self.found_by = by
        self.chosen, self.value = chosen, value

    def take(self, found: Outcome, origin: Ints, by: str) -> None:
        """Keep an engine's answer if it is better. `origin[column]`: number of the engine's column in this problem."""
        if found.chosen is not None and found.value is not None:
            self.better(origin[found.chosen].astype(np.int64), found.value, by)

    def continued(self, sweep: Sweep, labels: int, origin: Ints, by: str) -> tuple[Outcome, int]:
        """Continue a sweep for `labels` labels and keep its answer. Return the outcome and the labels used, at least 1."""
        if self.value is not None:
            sweep.tighten(self.value)
        before, swept = sweep.done, sweep.run(labels)
        self.take(swept, origin, by)
        return swept, max(sweep.done - before, 1)

    def raise_lower(self, lower: int, by: str) -> None:
        """Raise the lower bound to `lower`, proven by the engine `by`, if it is higher."""
        if lower > self.lower:
            self.lower, self.lower_by = lower, by

    @property
    def most(self) -> int:
        """Upper limit on sums of interest: the incumbent's, or `top` without one."""
        return self.top if self.value is None else self.value

    def close_enough(self) -> bool:
        """True if the incumbent is within the requested gap of the lower bound."""
        goal, gap = self.problem.goal, self.effort.gap
        return self.value is not None and within_gap(goal, self.value, self.lower, gap)

    def outcome(self, proven: bool, by: str = "") -> Outcome:
        """Return the state as an outcome. `by`: the engine that finished the proof, by default that of the bound."""
        by = by or self.lower_by
        if self.value is None:
            if not proven:
                return Outcome(bound=self.lower, proved_by=self.lower_by)
            beyond = None if self.at_most is None else max(self.lower, self.at_most + 1)
            return Outcome(bound=beyond, proven=True, proved_by=by)
        return Outcome(self.chosen, self.value, min(self.lower, self.value), proven, self.found_by, by)


def within_gap(goal: Goal, value: int, bound: int, gap: float) -> bool:
    """True if |value - bound| <= gap * |value| in the objective's units. `value` and `bound` are given as sums."""
    reached, proven = goal.in_units(value), goal.in_units(bound)
    if reached is None or proven is None:
        return value == bound
    return abs(reached - proven) <= Fraction(gap) * abs(reached)


SWEEPS = "label setting"
BEAMS = 10, 100  # labels per layer of a beam search for a first answer, and then for a better one
FIRST_CORE = 4  # average columns per layer of the first sweep, if no answer is known
FIRST_REACH = 0.03  # first limit, as a share of the way from the bound to the known answer, or to the limit
FURTHER = 2  # growth of the reach from one sweep to the next
FAR = 4  # the same, if no answer is known


@dataclass(slots=True, eq=False)
class LabelSetting:
    """The label-setting engine of the portfolio. `usable`: False once it is given up (too large, or another bound is far ahead).

    `reach`: distance of the next limit above the bound. `sweep`: the one in progress, for sums up to `most`, on columns `origin`.
    """

    ledger: Ledger
    usable: bool = True
    reach: int = 0
    most: int = 0
    sweep: Sweep | None = None
    origin: Ints = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    def __post_init__(self) -> None:
        ledger, bound = self.ledger, self.ledger.bound
        most = ledger.at_most if ledger.value is None else ledger.value
        if most is not None:
            self.reach = max(0, int((most - bound.value) * FIRST_REACH))
        else:
            slack = np.sort(bound.slack)
            at = int(slack[min(FIRST_CORE * ledger.problem.columns.layers, len(slack) - 1)])
            self.reach = max(1, min(-(-at // bound.scale), ledger.top - bound.value))

    def run(self, labels: int) -> bool:
        """Extend about `labels` more labels. Return True if the ledger's answer, or that there is none, is then proven."""
        ledger = self.ledger
        # another engine's bound is far beyond the sweep in progress: sweeps from the root's bound are hopeless
        self.usable &= self.sweep is None or self.most + self.reach >= ledger.lower
        while self.usable and labels > 0 and ledger.effort.left_s > 0:
            if self.sweep is None:
                self.most = self._next_most()
                if self.most >= ledger.lower:  # else there is nothing to find
                    keep, deadline = ledger.bound.within(self.most), ledger.effort.deadline
                    problem, self.origin = ledger.problem.only(keep), keep.nonzero()[0]
                    self.sweep = sweep_of(problem, ledger.bound, self.most, ledger.value, deadline=deadline)
                    self.usable = self.sweep is not None
            if self.sweep is not None:
                labels -= self._continue(self.sweep, labels)
            if self.sweep is not None or not self.usable:
                return False
            if self._ended():
                return True
        return False

    def _continue(self, sweep: Sweep, labels: int) -> int:
        """Continue a sweep for `labels` labels. Return the number of labels used, at least 1."""
        swept, used = self.ledger.continued(sweep, labels, self.origin, SWEEPS)
        if swept.proven:
            self.sweep = None
        elif swept.bound is not None:
            self.ledger.raise_lower(swept.bound, SWEEPS)
            self.usable = not sweep.is_full
        return used

    def _ended(self) -> bool:
        """Return True if a finished sweep proves the answer, or that there is none; else increase the reach of the next one."""
        ledger = self.ledger
        if ledger.value is not None and ledger.value <= self.most:
            ledger.raise_lower(ledger.value, SWEEPS)
            return True
        if self.most >= ledger.top and ledger.value is None:
            return True
        ledger.raise_lower(self.most + 1, SWEEPS)
        if ledger.effort.gap and ledger.close_enough():
            return True
        self.reach = int(self.reach * (FAR if ledger.value is None else FURTHER)) + 1
        return False

    def _next_most(self) -> int:
        """Return the next limit: `reach` above the bound, or what a proof within the gap needs if twice the reach is enough."""
        ledger, goal, gap = self.ledger, self.ledger.problem.goal, self.ledger.effort.gap
        value, bound = ledger.value, ledger.bound.value
        most = bound + self.reach
        if value is None or not gap:
            return min(most, ledger.most)
        is_enough = partial(within_gap, goal, value, gap=gap)  # of a bound
        enough = bound + bisect_left(range(bound, value), True, key=is_enough) - 1
        return enough if most + self.reach >= enough else most


def beam(
    ledger: Ledger, problem: Problem, bound: Bound, origin: Ints, by: str, widths: Sequence[int] = BEAMS
) -> int:
    """Look for a better answer by beam searches of `widths` labels a layer; they prove nothing. Return the number of labels."""
    deadline, labels = ledger.effort.deadline, 0
    for width in widths:
        known = ledger.top + 1 if ledger.value is None else ledger.value
        sweep = sweep_of(problem, bound, ledger.most, known, width=width, deadline=deadline)
        if sweep is None:
            break
        if not labels:
            answers = cheapest_children(problem, sweep.resources)
            within = problem.matrix[:, answers].sum(axis=2) <= problem.limits[:, None]
            answers = answers[within.all(axis=0) & problem.meeting_formulas(answers)]
            if len(answers):
                best = min(answers, key=problem.goal.of)
                ledger.better(origin[best], problem.goal.of(best), by)
                sweep.tighten(problem.goal.of(best))
        ledger.take(sweep.run(), origin, by)
        labels += sweep.done
    return labels


def cheapest_children(problem: Problem, resources: Resources) -> Ints:
    """Return the cheapest columns of all layers, along a path if there are any, at each variation of the prices, [way][layer]."""
    rows, paths = resources.rows, paths_of(problem)
    priced = resources.deltas[rows:]
    if paths is not None:
        return paths.cheapest(priced, paths.least(priced), [part[rows:] for part in resources.to_end])
    spans = map(problem.columns.span, range(problem.columns.layers))
    return np.array([here.start + priced[:, here].argmin(axis=1) for here in spans]).T


NODES = "branch and bound"
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
    """The branch-and-bound engine of the portfolio, for problems whose diagram has stages."""

    ledger: Ledger
    waiting: list[tuple[int, int, _Node]] = field(default_factory=list)
    made: int = 0
    usable: bool = True

    def __post_init__(self) -> None:
        problem, bound = self.ledger.problem, self.ledger.bound
        self._put(_Node(problem, np.arange(len(problem.columns)), bound), bound.value)

    def run(self, labels: int) -> bool:
        """Process nodes for work worth `labels` labels. Return True if the ledger's answer, or that there is none, is proven."""
        ledger = self.ledger
        while self.usable and self.waiting and labels > 0 and ledger.effort.left_s > 0:
            bound, _, node = heapq.heappop(self.waiting)
            if bound > ledger.most:
                self.waiting = []
                break
            ledger.raise_lower(bound, NODES)
            if ledger.effort.gap and ledger.close_enough():
                return True
            sweep = node.sweep
            labels -= self._follow(node) if sweep is None else self._finish(node, sweep, bound, labels)
        if not self.usable or self.waiting:
            return False
        if ledger.value is not None:
            ledger.raise_lower(ledger.value, NODES)
        return True

    def _put(self, node: _Node, bound: int) -> None:
        self.made += 1
        heapq.heappush(self.waiting, (bound, self.made, node))

    def _follow(self, node: _Node) -> int:
        """Finish a node by label setting, or split it. Return the work in labels."""
        ledger = self.ledger
        keep = node.bound.within(ledger.most)
        problem, origin = node.problem.only(keep), node.origin[keep]
        used = beam(ledger, problem, node.bound, origin, NODES, BEAMS if ledger.value is None else BEAMS[:1])
        deadline = ledger.effort.deadline
        sweep = sweep_of(problem, node.bound, ledger.most, ledger.value, deadline=deadline)
        if sweep is None:
            self._put(node, node.bound.value)
            self.usable = False
            return 0
        swept = sweep.run(LABELS)
        ledger.take(swept, origin, NODES)
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
        swept, used = self.ledger.continued(sweep, labels, node.origin, NODES)
        if not swept.proven:
            self._put(node, max(bound, swept.bound or bound))
            self.usable = not sweep.is_full
        return used


def _halves(problem: Problem, resources: Resources) -> tuple[Mask, Mask] | None:
    """Halve by use the classes of the layer where cheap paths differ most. Return masks of columns; None if none has two."""
    paths = paths_of(problem)
    if paths is None:
        return None
    diagram, rows = paths.diagram, resources.rows
    stages = [stage for stage, table in enumerate(diagram.next) if table.shape[1] > 1]
    if not stages:
        return None
    use = (resources.weights @ resources.deltas[:rows]).astype(np.float64)
    cheap = cheapest_children(problem, resources)[:, list(diagram.order)]
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
