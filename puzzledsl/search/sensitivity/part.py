"""One problem with each of many pins: lower bounds, the best known answers, and the search that settles a pin.

Columns that no better answer with the pin has are left out, by their reduced costs.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from puzzledsl.alternatives.alternative import ENDS, Site, SubBlock
from puzzledsl.ir.tables import Assignment, EndsAssignment
from puzzledsl.search.effort import Effort
from puzzledsl.search.lagrangian.bound import lagrangian_bound
from puzzledsl.search.portfolio.minimise import minimise
from puzzledsl.search.problem.columns import Columns, Ints, Mask
from puzzledsl.search.problem.instance import Problem, presolve
from puzzledsl.search.problem.paths import NEVER

SUB_BLOCKS: tuple[SubBlock, SubBlock] = ("attention", "ffn")
FURTHER = 1.2  # first growth of a pin's reach, which starts at the median of the gaps seen; it grows itself


@dataclass(frozen=True, slots=True)
class Pin:
    """An alternative fixed in one sub-block of one layer."""

    layer: int
    sub_block: Site
    alternative: str

    def own(self, columns: Columns) -> Ints:
        """Return the columns of the layer that have the alternative."""
        here = columns.of_layer(self.layer)
        has = [getattr(choice, self.sub_block) == self.alternative for choice in here]
        return np.asarray(int(columns.start[self.layer]) + np.flatnonzero(has), dtype=np.int64)

    def keep(self, columns: Columns) -> Mask:
        """Return the mask of columns allowed with this pin: its own, and all of other layers."""
        keep = columns.layer_of != self.layer
        keep[self.own(columns)] = True
        return np.asarray(keep, dtype=np.bool_)


def pins_of(columns: Columns) -> list[Pin]:
    """Return every pin of a search, by layer, attention before FFN, in the order of the space."""
    return [
        Pin(layer, sub_block, name)
        for layer in range(columns.layers)
        for sub_block in sites_of(columns.of_layer(layer))
        for name in dict.fromkeys(getattr(choice, sub_block) for choice in columns.of_layer(layer))
    ]


def sites_of(choices: Sequence[Assignment]) -> tuple[Site, ...]:
    """Return the sites that a layer's choices are made at; behind the last layer, those of the model's ends."""
    return ENDS if isinstance(choices[0], EndsAssignment) else SUB_BLOCKS


class Part:
    """The problem of one combination of batches; by pin the lower bound on its sum, and the best known answer.

    `none`: there is no child. `chosen`: the answer with the sum `upper`; NEVER if there is none. `most`: largest sum of interest.
    `gaps`: distances of the optima found from the bounds of their pins, ascending. `owns`: columns of each pin; `pins[column]`:
    numbers of each column's pins.
    """

    def __init__(self, problem: Problem, pins: Sequence[Pin], deadline: float) -> None:
        self.problem, self.bound = problem, lagrangian_bound(problem, deadline=deadline)
        self.owns, self.layers = [pin.own(problem.columns) for pin in pins], [pin.layer for pin in pins]
        self.top = most_of(problem)
        self.lower = np.full(len(pins), self.bound.value)
        self.none = np.full(len(pins), self.bound.infeasible)
        self.upper = np.full(len(pins), NEVER)
        self.chosen = np.zeros((len(pins), problem.columns.layers), dtype=np.int64)
        self.pins = np.full((len(problem.columns), 2), -1)
        self.gaps: list[int] = []
        bound = self.bound
        for number, (pin, own) in enumerate(zip(pins, self.owns, strict=True)):
            self.pins[own, (*SUB_BLOCKS, *ENDS).index(pin.sub_block) % 2] = number
            self.none[number] |= not len(own)
            if not self.none[number]:
                slack = -(-(bound.exact + int(bound.slack[own].min())) // bound.scale)
                self.lower[number] = min(slack, self.top + 1)
        self.none |= self.lower > self.top

    def share(self, chosen: Ints) -> None:
        """Keep an answer for every pin that it has, if it is better than the known one."""
        value, pins = self.problem.goal.of(chosen), self.pins[chosen].ravel()
        pins = pins[pins >= 0]
        pins = pins[value < self.upper[pins]]
        self.upper[pins], self.chosen[pins] = value, chosen

    def verify(self) -> None:
        """Raise RuntimeError if an answer does not meet the requirements or does not have its pin."""
        pins = (self.upper < NEVER).nonzero()[0]
        answers, problem = self.chosen[pins], self.problem
        within = problem.matrix[:, answers].sum(axis=2) <= problem.limits[:, None]
        has = (self.pins[answers] == pins[:, None, None]).any(axis=(1, 2))
        if not (within.all() and has.all() and problem.meeting_formulas(answers).all()):
            raise RuntimeError("an answer found for a pin does not meet the requirements")

    def without(self, number: int, at_most: int) -> None:
        """Note that no child with a pin has a sum up to `at_most`."""
        self.lower[number] = max(int(self.lower[number]), at_most + 1)
        self.none[number] = at_most >= self.top

    def keep(self, number: int) -> Mask:
        """Return the mask of columns allowed with a pin."""
        keep = self.problem.columns.layer_of != self.layers[number]
        keep[self.owns[number]] = True
        return np.asarray(keep, dtype=np.bool_)

    def solve(self, number: int, at_most: int, effort: Effort) -> None:
        """Solve the problem with a pin, if there can be an answer up to `at_most`: ever further above its own bound."""
        problem = self.problem
        if self.none[number] or self.lower[number] > at_most:
            return
        keep = self.keep(number) & self.bound.within(at_most)
        covered = problem.columns.covers(keep)
        solved = presolve(problem.only(keep), deadline=effort.deadline) if covered else None
        if solved is None:
            self.without(number, at_most)
            return
        bound = lagrangian_bound(solved.problem, self.bound.float_prices, effort.deadline)
        if bound.value > at_most:
            self.without(number, at_most)
            return
        reach, further = self.gaps[len(self.gaps) // 2] if self.gaps else 0, FURTHER
        while self.lower[number] <= at_most and effort.left_s > 0:
            self.lower[number] = max(int(self.lower[number]), bound.value)
            most = min(at_most, max(bound.value + reach, int(self.lower[number])))
            found = minimise(solved.problem, effort, False, int(self.lower[number]), bound, most)
            if found.infeasible:
                self.without(number, at_most if found.bound is None else most)
            elif found.bound is not None:
                self.lower[number] = max(int(self.lower[number]), found.bound)
            if found.chosen is not None:
                chosen = keep.nonzero()[0][solved.origin[found.chosen]].astype(np.int64)
                self.share(chosen)
                insort(self.gaps, problem.goal.of(chosen) - bound.value)
            if not found.infeasible:
                return
            reach, further = int(reach * further) + 1, further * FURTHER


def most_of(problem: Problem) -> int:
    """Return the largest possible sum."""
    return int(problem.columns.most(problem.goal.values).sum())
