"""One problem with each of many pins (an alternative fixed in a sub-block): bounds, best answers, searches that settle pins.

If rows are the only constraints, many pins are searched at once (`together`). If there are formulas too, pins are searched one
after another along the paths of the diagram, at prices that they share. Columns that are in no better answer with the pin are
left out, by their reduced costs and by the lower bounds of other pins.
"""

from bisect import insort
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from puzzledsl.alternatives.alternative import ENDS, SUB_BLOCKS, Site
from puzzledsl.ir.tables import EndsAssignment
from puzzledsl.search.label_setting.sweep import sweep_of
from puzzledsl.search.lagrangian.bound import Bound, certify, lagrangian_bound
from puzzledsl.search.portfolio.minimise import minimise
from puzzledsl.search.problem.columns import Columns, Floats, Ints, Mask
from puzzledsl.search.problem.diagram import NEVER, Diagram, Paths, diagram_of
from puzzledsl.search.problem.instance import Effort, Problem, is_unfinished, presolve
from puzzledsl.search.sensitivity.together import ROUNDING, Priced, Together

FURTHER = 1.2  # first growth of a pin's reach, which starts at the median of the gaps seen; it grows itself
# Many pins at once: rooms for slack, in gaps between the optimum and its bound; first, and then each time that open pins are
# sampled for their own prices. `FAR`: distance above a pin's own bound, as a multiple of the last of them.
REACHES, FAR = (1.05, 1.2, 1.4), 1.15
LATER = ((1.25, 1.55), (1.6, 2.0), (2.1, 2.7), (2.8, 4.0))
SAMPLED = 24  # about so many of the open pins
FEWEST = 4  # pins that are worth a search at such prices
NEAR = 0.2  # distance of a bound at such prices from the best bound, in gaps
EACH = (2.5, 5.0)  # the same where pins are searched one by one, in gaps of the pins found
MOST_LABELS = 60_000  # of a pin there
CORE = 1.25  # columns per layer whose slack estimates the gap, if it is smaller
AT_ONCE = 500_000  # values of columns or transitions at a time: 4 MB
# multiples of prices at which answers with a pin are cheapest
DEARER = (1.0, 1.003, 1.01, 1.03, 1.1, 1.3, 2.0, 10.0)


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
        for sub_block in (ENDS if isinstance(columns.of_layer(layer)[0], EndsAssignment) else SUB_BLOCKS)
        for name in dict.fromkeys(getattr(choice, sub_block) for choice in columns.of_layer(layer))
    ]


class Part:
    """The problem of one combination of batches; for each pin, the `lower` bound on its sum, and the best known answer.

    `none`: no child has the pin. `chosen`: its best answer, of sum `upper`; NEVER without one. `most`: largest sum of interest.
    `gaps`: distances of the optima found from the bounds of their pins, ascending. `owns`: columns of each pin; `pins[column]`:
    numbers of each column's two pins, -1 for none. `free`: every choice that meets the rows is an answer.
    """

    def __init__(self, problem: Problem, pins: Sequence[Pin], deadline: float) -> None:
        self.problem, self.bound = problem, lagrangian_bound(problem, deadline=deadline)
        self.all, self.owns = pins, [pin.own(problem.columns) for pin in pins]
        self.top = problem.largest_sum
        self.lower = np.full(len(pins), self.bound.value)
        self.none = np.full(len(pins), self.bound.infeasible)
        self.upper, self.most = np.full(len(pins), NEVER), np.full(len(pins), self.top)
        self.free = (not problem.formulas and not problem.columns.period) or is_free(problem.diagram)
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
        """Record that no child with pin `number` has a sum up to `at_most`; if no sum is larger, no child has the pin."""
        self.lower[number] = max(int(self.lower[number]), at_most + 1)
        self.none[number] = at_most >= self.top

    def together(self, effort: Effort) -> None:
        """Settle many pins by label setting at shared prices: first the problem's, then those of some pins still open."""
        problem, bound = self.problem, self.bound
        if (not self.free and is_unfinished(problem.diagram)) or not bound.float_prices.any():
            return
        search = self._rounds if self.free else self._each
        slack = np.sort(bound.slack)[min(int(CORE * problem.columns.layers), len(problem.columns) - 1)]
        known = self.upper[self.upper < NEVER]
        seen = int(known.min(initial=self.top)) - bound.value if len(known) else 0
        gap = max(seen, int(slack) // bound.scale)
        search(bound, self.open, gap, REACHES, effort)
        for reaches in LATER:
            left, numbers = self.open, self.open.nonzero()[0]
            some = numbers[:: len(numbers) // SAMPLED + 1]
            owns = (problem.only(self.keep(int(n))) for n in some)
            own = (lagrangian_bound(each, bound.float_prices, effort.deadline) for each in owns)
            bounds = [certify(problem, each.float_prices) for each in own]
            levels = [self._of_pins((each.slack + float(each.exact)) / each.scale) for each in bounds]
            while bounds and effort.left_s > 0:
                near = (np.array(levels) >= np.max(levels, axis=0) - NEAR * gap) & left
                place = int(near.sum(axis=1).argmax())
                if near[place].sum() < FEWEST:
                    break
                search(bounds[place], near[place], gap, reaches, effort)
                left &= ~near[place]
        self.none |= (self.lower > self.top) & (self.upper == NEVER)

    @property
    def open(self) -> Mask:
        """Mask of the pins whose optimum is neither known nor proven to be above `most`."""
        return np.asarray(~self.none & (self.lower <= self.most) & (self.lower < self.upper))

    def _of_pins(self, values: Floats) -> Floats:
        """Return the least value of each pin's columns, [columns] -> [pins]; infinite for a pin without columns."""
        found = np.full(len(self.none) + 1, np.inf)
        for numbers in self.pins.T:
            np.minimum.at(found, numbers, values)  # -1 is the last entry
        return found[:-1]

    def keep(self, number: int) -> Mask:
        """Return the mask of columns allowed with a pin."""
        return self.all[number].keep(self.problem.columns)

    def _each(self, bound: Bound, which: Mask, gap: int, reaches: Sequence[float], effort: Effort) -> None:
        """Search the open pins in `which` one by one along the diagram's paths, at a bound's prices. `gap`, `reaches`: unused."""
        problem, prices = self.problem, bound.float_prices
        assert problem.diagram is not None, "there are paths"
        paths, priced = Paths(problem.columns, problem.diagram), problem.goal.values + prices @ problem.matrix
        rounding = ROUNDING * (problem.goal_size + float(prices @ problem.row_sizes))
        for numbers in self._batches((which & self.open).nonzero()[0], problem.diagram, 1):
            values = np.vstack([np.where(self.keep(number), priced, np.inf) for number in numbers])
            least, slack = paths.slacks(values)
            least = least - prices @ problem.limits - rounding
            for number, own, above in zip(numbers, least, slack + least[:, None], strict=True):
                if effort.left_s <= 0:
                    return
                self._sweep(bound, number, float(own), above, effort)

    def _sweep(self, bound: Bound, number: int, least: float, above: Floats, effort: Effort) -> None:
        """Search pin `number` by label setting. `least`: lower bound on its sums; `above[column]`: on those with the column."""
        self.lower[number] = max(int(self.lower[number]), min(int(np.ceil(least)), self.top + 1))
        lower = np.append(self.lower, -NEVER)
        for reach in EACH:
            gap = self.gaps[len(self.gaps) // 2] if self.gaps else 0
            most = min(int(least + reach * gap), int(self.upper[number]) - 1, int(self.most[number]))
            if most < self.lower[number]:
                continue
            keep = (above <= most) & (lower[self.pins] <= most).all(axis=1)
            if self.problem.columns.covers(keep):
                sweep = sweep_of(self.problem.only(keep), bound, most, deadline=effort.deadline)
                swept = None if sweep is None else sweep.run(MOST_LABELS)
                if swept is None or not swept.proven:
                    return
                if swept.chosen is not None:
                    chosen = keep.nonzero()[0][swept.chosen].astype(np.int64)
                    self.share(chosen)
                    insort(self.gaps, self.problem.goal.of(chosen) - int(least))
            self.lower[number] = min(most + 1, int(self.upper[number]))
            if self.lower[number] == self.upper[number]:
                return

    def _rounds(self, bound: Bound, which: Mask, gap: int, reaches: Sequence[float], effort: Effort) -> None:
        """Search the open pins in `which` at a bound's prices, up to `reach * gap` above their bounds, for each of `reaches`."""
        priced = Priced(self.problem, bound.float_prices)
        near, lower = self._of_pins(priced.above[0] - priced.room[0]), self._of_pins(priced.lower())
        self.lower = np.maximum(self.lower, np.minimum(np.ceil(lower), self.top + 1).astype(np.int64))
        far = np.minimum(lower + FAR * reaches[-1] * gap, self.most)
        for reach in reaches:
            most = np.minimum(np.minimum(near + reach * gap, far), self.upper - 1).astype(np.int64)
            asked = (which & self.open & (most >= self.lower)).nonzero()[0]
            if not len(asked) or effort.left_s <= 0:
                continue
            owns = [self.owns[number] for number in asked]
            complete, answers = Together(priced, owns, most[asked], effort).run()
            for chosen in answers:
                self.share(chosen)
            done = asked[complete]
            self.lower[done] = np.minimum(most[done] + 1, self.upper[done])
            if not complete.all():  # further away there are more labels
                break

    def cheapest_with(self, effort: Effort) -> None:
        """Share for each open pin the best of the answers that are cheapest with it at multiples of the bound's prices."""
        problem, columns = self.problem, self.problem.columns
        diagram = problem.diagram or diagram_of(columns, ())
        assert diagram is not None, "there always is a diagram of no formulas"
        paths = Paths(columns, diagram)
        priced = problem.goal.values + np.outer(DEARER, self.bound.float_prices @ problem.matrix)
        for numbers in self._batches(self.open.nonzero()[0], diagram, len(DEARER)):
            if effort.left_s <= 0:
                break
            values = np.vstack([np.where(self.keep(number), priced, np.inf) for number in numbers])
            least = paths.least(values)
            to_end = paths.to_end(least)
            answers = paths.cheapest(values, least, to_end)
            meets = (problem.matrix[:, answers].sum(axis=2) <= problem.limits[:, None]).all(axis=0)
            meets &= np.isfinite(to_end[0][:, 0])
            if problem.formulas and is_unfinished(problem.diagram):
                meets[meets] = problem.meeting_formulas(answers[meets])
            sums = np.where(meets, problem.goal.values[answers].sum(axis=1), NEVER)
            for place in range(0, len(sums), len(DEARER)):
                best = place + int(sums[place : place + len(DEARER)].argmin())
                if meets[best]:
                    self.share(answers[best])

    def _batches(self, numbers: Ints, diagram: Diagram, ways: int) -> Iterator[list[int]]:
        """Yield the pins `numbers` in batches that need up to AT_ONCE values for paths at `ways` prices a pin."""
        largest = max((table.size for table in diagram.next), default=1)
        together = max(1, AT_ONCE // (ways * max(largest, len(self.problem.columns))))
        for begin in range(0, len(numbers), together):
            yield numbers[begin : begin + together].tolist()

    def solve(self, number: int, at_most: int, effort: Effort) -> None:
        """Search for the best answer with pin `number` and a sum up to `at_most`, under limits that rise from its bound."""
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


def cases_of(problem: Problem) -> list[Problem]:
    """Split a problem by the classes of the diagram's first layer if only rows constrain each part then; else return it alone."""
    diagram, columns, found = problem.diagram, problem.columns, list[Problem]()
    if diagram is None or not diagram.order or columns.period:
        return [problem]
    here = columns.span(diagram.order[0])
    for own in range(diagram.next[0].shape[1]):
        keep = np.ones(len(columns), dtype=np.bool_)
        keep[here] = diagram.classes[here] == own
        solved = presolve(problem.only(keep), quick=True)
        if solved is None or not is_free(solved.problem.diagram):
            return [problem]
        found.append(solved.problem)
    return found


def is_free(diagram: Diagram | None) -> bool:
    """True if the diagram excludes no choice: it is of all formulas, and has a single state between any two layers."""
    return diagram is not None and diagram.whole and all(len(table) == 1 for table in diagram.next)
