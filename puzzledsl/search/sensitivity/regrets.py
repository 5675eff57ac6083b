"""Optimum of a search with each of many pins: many at once where budgets are all there is, then one after another.

A pin fixes the alternative of one sub-block of one layer. The optimum without pins and the slack of the Lagrangian bound are
lower bounds of every pin; each answer is an upper bound of all the pins that it has. Pins that are still open are solved nearest
bounds first, in rounds with more time for each.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import chain

import numpy as np

from puzzledsl.alternatives.alternative import ENDS, Site, SubBlock
from puzzledsl.ir.tables import Assignment, EndsAssignment
from puzzledsl.search.answer import best_meeting_all, checked
from puzzledsl.search.effort import Effort
from puzzledsl.search.label_setting.sweep import sweep_of
from puzzledsl.search.lagrangian.bound import Bound, certify, lagrangian_bound
from puzzledsl.search.portfolio.minimise import minimise
from puzzledsl.search.problem.columns import Columns, Floats, Ints, Mask
from puzzledsl.search.problem.diagram import Diagram, diagram_of
from puzzledsl.search.problem.instance import INFINITE, Problem, is_unfinished, presolve
from puzzledsl.search.problem.metrics import Child
from puzzledsl.search.problem.paths import NEVER, Paths
from puzzledsl.search.problem.problem import Problems
from puzzledsl.search.sensitivity.together import ROUNDING, Priced, Together
from puzzledsl.search.tables import Tables

SUB_BLOCKS: tuple[SubBlock, SubBlock] = ("attention", "ffn")
SLICES_S = (0.5, 4.0, 30.0, 600.0)  # seconds for a pin, by round
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
        for sub_block in sites_of(columns.of_layer(layer))
        for name in dict.fromkeys(getattr(choice, sub_block) for choice in columns.of_layer(layer))
    ]


def sites_of(choices: Sequence[Assignment]) -> tuple[Site, ...]:
    """Return the sites that a layer's choices are made at; behind the last layer, those of the model's ends."""
    return ENDS if isinstance(choices[0], EndsAssignment) else SUB_BLOCKS


@dataclass(frozen=True, slots=True)
class Standing:
    """Bounds on an optimum, as ranks (less is better): lower bound `least`, and `most`, reached by the child of `layers`.

    Both are None if no child exists; only `most` is None if none was found.
    """

    least: Fraction | None
    most: Fraction | None
    layers: tuple[Assignment, ...] | None = None
    batches: Mapping[str, int] | None = None

    @property
    def settled(self) -> bool:
        """True if the optimum is proven, or that there is no child."""
        return self.least == self.most

    def and_also(self, new: Standing) -> Standing:
        """Return the bounds from both of two searches for the same optimum."""
        if self.least is None or new.least is None:
            return self if self.least is None else new
        better = new if self.most is None or (new.most is not None and new.most < self.most) else self
        return replace(better, least=max(self.least, new.least))


NO_CHILD = Standing(None, None)
UNKNOWN = Standing(-INFINITE, None)


def standing(tables: Tables, problems: Problems, effort: Effort) -> Standing:
    """Solve problems of a search and return the bounds on the optimum; the child is verified."""
    found = best_meeting_all(tables, problems, effort)
    sign = -1 if tables.search.sense == "maximize" else 1
    least = -INFINITE if found.bound is None else sign * found.bound
    if found.layers is None:
        return NO_CHILD if found.proven else Standing(least, None)
    checked(tables, found)
    most = sign * Child(tables, found.layers, found.batches).linear(tables.search.objective)
    return Standing(most if found.proven else min(most, least), most, found.layers, found.batches)


def pinned(problems: Problems, pin: Pin) -> Problems:
    """Return the problems with one alternative fixed."""
    return problems.changed(lambda problem, _: problem.only(pin.keep(problem.columns)))


def optima_of(
    tables: Tables, problems: Problems, pins: Sequence[Pin], root: Standing, effort: Effort
) -> list[Standing]:
    """Find the optimum of a search with each pin. `problems`: without preferences. `root`: the optimum without pins."""
    if all(box.is_single for box in problems.boxes):
        listed = [*problems]
        if all(row.exact for problem in listed for row in problem.rows):
            return Pinned(listed, pins, root, effort).run()
    found = [UNKNOWN] * len(pins)
    for number, slice_s in _turns(found, effort):
        own = Effort.of(min(slice_s, effort.left_s))
        found[number] = found[number].and_also(standing(tables, pinned(problems, pins[number]), own))
    return found


def _turns(found: Sequence[Standing], effort: Effort) -> Iterator[tuple[int, float]]:
    """Yield the number of each pin that is not settled and the seconds it gets, in rounds, those with near bounds first."""

    def width(number: int) -> Fraction:
        now = found[number]
        return INFINITE if now.most is None or now.least is None else now.most - now.least

    for slice_s in SLICES_S:
        for number in sorted(range(len(found)), key=width):
            if effort.left_s <= 0:
                return
            if not found[number].settled:
                yield number, slice_s


class _Part:
    """The problem of one combination of batches; by pin the lower bound on its sum, and the best known answer.

    `none`: there is no child. `chosen`: the answer with the sum `upper`; NEVER if there is none. `most`: largest sum of interest.
    `gaps`: distances of the optima found from the bounds of their pins, ascending. `owns`: columns of each pin; `pins[column]`:
    numbers of each column's pins. `free`: every choice that keeps to the budgets is an answer.
    """

    def __init__(self, problem: Problem, pins: Sequence[Pin], deadline: float) -> None:
        self.problem, self.bound = problem, lagrangian_bound(problem, deadline=deadline)
        self.owns, self.top = [pin.own(problem.columns) for pin in pins], _most(problem)
        self.lower = np.full(len(pins), self.bound.value)
        self.none = np.full(len(pins), self.bound.infeasible)
        self.upper, self.most = np.full(len(pins), NEVER), np.full(len(pins), self.top)
        self.free = (not problem.formulas and not problem.columns.period) or _is_free(problem.diagram)
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

    def together(self, effort: Effort) -> None:
        """Settle many pins: at the problem's prices, then at those of pins still open."""
        problem, bound = self.problem, self.bound
        if (not self.free and is_unfinished(problem.diagram)) or not bound.float_prices.any():
            return
        search = self._rounds if self.free else self._each
        slack = np.sort(bound.slack)[min(int(CORE * problem.columns.layers), len(problem.columns) - 1)]
        known = self.upper[self.upper < NEVER]
        gap = max(
            int(known.min(initial=self.top)) - bound.value if len(known) else 0, int(slack) // bound.scale
        )
        search(bound, self.open, gap, REACHES, effort)
        for reaches in LATER:
            left, numbers = self.open, self.open.nonzero()[0]
            some = numbers[:: len(numbers) // SAMPLED + 1]
            bounds = [certify(problem, self._own_prices(int(n), effort)) for n in some]
            levels = [self._bounds(each) for each in bounds]
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
        """Mask of the pins whose optimum is not known."""
        return np.asarray(~self.none & (self.lower <= self.most) & (self.lower < self.upper))

    def _of_pins(self, values: Floats) -> Floats:
        """Return the least value of each pin's columns."""
        found = np.full(len(self.none) + 1, np.inf)
        for numbers in self.pins.T:
            np.minimum.at(found, numbers, values)  # -1 is the last entry
        return found[:-1]

    def _own_prices(self, number: int, effort: Effort) -> Floats:
        """Return the best prices with a pin."""
        own = self.problem.only(self._keep(number))
        return lagrangian_bound(own, self.bound.float_prices, effort.deadline).float_prices

    def _keep(self, number: int) -> Mask:
        """Return the mask of columns allowed with a pin."""
        layer_of, own = self.problem.columns.layer_of, self.owns[number]
        keep = layer_of != layer_of[own[0]]
        keep[own] = True
        return np.asarray(keep)

    def _bounds(self, bound: Bound) -> Floats:
        """Return each pin's bound at a bound's prices."""
        return self._of_pins((bound.slack + float(bound.exact)) / bound.scale)

    def _each(self, bound: Bound, which: Mask, gap: int, reaches: Sequence[float], effort: Effort) -> None:
        """Search some pins one after another along the paths of the diagram, at a bound's prices."""
        problem, prices = self.problem, bound.float_prices
        assert problem.diagram is not None, "there are paths"
        paths, priced = Paths(problem.columns, problem.diagram), problem.goal.values + prices @ problem.matrix
        rounding = ROUNDING * (problem.goal_size + float(prices @ problem.row_sizes))
        largest = max((table.size for table in problem.diagram.next), default=1)
        together = max(1, AT_ONCE // max(largest, len(problem.columns)))
        numbers = (which & self.open).nonzero()[0]
        for begin in range(0, len(numbers), together):
            some = numbers[begin : begin + together]
            values = np.vstack([np.where(self._keep(number), priced, np.inf) for number in some])
            least, slack = paths.slacks(values)
            least = least - prices @ problem.limits - rounding
            for number, own, above in zip(some.tolist(), least, slack + least[:, None], strict=True):
                if effort.left_s <= 0:
                    return
                self._sweep(bound, number, float(own), above, effort)

    def _sweep(self, bound: Bound, number: int, least: float, above: Floats, effort: Effort) -> None:
        """Search a pin by label setting. `least`: its bound; `above`: of answers with each column."""
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
        """Search some pins at a bound's prices, up to `reach * gap` above their bounds, for each reach."""
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


class Pinned:
    """Optima with each pin over several problems with exact integers, one for each combination of batches."""

    def __init__(
        self, listed: Sequence[Problem], pins: Sequence[Pin], root: Standing, effort: Effort
    ) -> None:
        self.pins, self.root, self.effort = pins, root, effort
        self.found = [UNKNOWN] * len(pins)
        solved = (presolve(problem, deadline=effort.deadline) for problem in listed)
        problems = chain.from_iterable(_cases(each.problem) for each in solved if each is not None)
        self.parts = [_Part(problem, pins, effort.deadline) for problem in problems]

    def run(self) -> list[Standing]:
        """Share what the optimum says, settle many pins at once, then solve with one pin after another."""
        for part in self.parts:
            self._near_the_optimum(part)
        for part in self.parts:
            if len(self.parts) > 1:
                below = [_largest_below(part.problem, each.most) for each in self.found]
                part.most = np.minimum(part.most, below)
            if not part.free:  # each pin is searched below its known answer
                self._cheapest_with(part)
            part.together(self.effort)
            if part.free:
                self._cheapest_with(part)
            self._settle(range(len(self.pins)))
        for number, slice_s in _turns(self.found, self.effort):
            for part in self.parts:
                self._solve(part, number, min(slice_s, self.effort.left_s))
            self._settle([number])
        for part in self.parts:
            part.verify()
        self._settle(range(len(self.pins)))
        return self.found

    def _near_the_optimum(self, part: _Part) -> None:
        """Share the optimum."""
        best = None if self.root.layers is None else part.problem.indices(self.root.layers)
        if best is not None and dict(part.problem.batches) == dict(self.root.batches or {}):
            part.share(best)
            if self.root.settled:
                part.gaps.append(part.problem.goal.of(best) - part.bound.value)
                part.lower = np.maximum(part.lower, part.problem.goal.of(best))

    def _cheapest_with(self, part: _Part) -> None:
        """Share for each pin the best of the answers that are cheapest with it at multiples of the bound's prices."""
        problem, columns = part.problem, part.problem.columns
        diagram = problem.diagram or diagram_of(columns, ())
        assert diagram is not None, "there always is a diagram of no formulas"
        paths = Paths(columns, diagram)
        priced = problem.goal.values + np.outer(DEARER, part.bound.float_prices @ problem.matrix)
        open_pins = [
            self.pins[number] for number in (~part.none & (part.lower < part.upper)).nonzero()[0].tolist()
        ]
        largest = max((table.size for table in diagram.next), default=1)
        together = max(1, AT_ONCE // (len(DEARER) * max(largest, len(columns))))
        for begin in range(0, len(open_pins), together):
            if self.effort.left_s <= 0:
                break
            pins = open_pins[begin : begin + together]
            values = np.vstack([np.where(pin.keep(columns), priced, np.inf) for pin in pins])
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
                    part.share(answers[best])

    def _solve(self, part: _Part, number: int, time_s: float) -> None:
        """Solve one problem with a pin, if it can have a better answer than the known one: ever further above its own bound."""
        problem, effort = part.problem, replace(self.effort, gap=0.0, deadline=Effort.of(time_s).deadline)
        at_most = _largest_below(problem, self.found[number].most)
        if part.none[number] or part.lower[number] > at_most:
            return
        keep = self.pins[number].keep(problem.columns) & part.bound.within(at_most)
        covered = problem.columns.covers(keep)
        solved = presolve(problem.only(keep), deadline=effort.deadline) if covered else None
        if solved is None:
            part.without(number, at_most)
            return
        bound = lagrangian_bound(solved.problem, part.bound.float_prices, effort.deadline)
        if bound.value > at_most:
            part.without(number, at_most)
            return
        reach, further = part.gaps[len(part.gaps) // 2] if part.gaps else 0, FURTHER
        while part.lower[number] <= at_most and effort.left_s > 0:
            part.lower[number] = max(int(part.lower[number]), bound.value)
            most = min(at_most, max(bound.value + reach, int(part.lower[number])))
            found = minimise(solved.problem, effort, False, int(part.lower[number]), bound, most)
            if found.infeasible:
                part.without(number, at_most if found.bound is None else most)
            elif found.bound is not None:
                part.lower[number] = max(int(part.lower[number]), found.bound)
            if found.chosen is not None:
                chosen = keep.nonzero()[0][solved.origin[found.chosen]].astype(np.int64)
                part.share(chosen)
                insort(part.gaps, problem.goal.of(chosen) - bound.value)
            if not found.infeasible:
                return
            reach, further = int(reach * further) + 1, further * FURTHER

    def _settle(self, numbers: Sequence[int]) -> None:
        """Combine the bounds and answers of all problems, and the lower bound of the optimum without pins."""
        at_best = -INFINITE if self.root.least is None else self.root.least
        for number in numbers:
            least, now = list[Fraction](), UNKNOWN
            for part in self.parts:
                goal, upper = part.problem.goal, int(part.upper[number])
                if upper < NEVER and (now.most is None or goal.rank(upper) < now.most):
                    layers = part.problem.choice(part.chosen[number])
                    now = Standing(now.least, goal.rank(upper), layers, part.problem.batches)
                if not part.none[number]:
                    least.append(goal.rank(int(part.lower[number])))
            least += [] if now.most is None else [now.most]
            self.found[number] = replace(now, least=max(at_best, min(least))) if least else NO_CHILD


def _cases(problem: Problem) -> list[Problem]:
    """Split a problem into one for each class of columns of a layer if budgets alone are left then, as where layers are tied."""
    diagram, columns, found = problem.diagram, problem.columns, list[Problem]()
    if diagram is None or not diagram.order or columns.period:
        return [problem]
    here = columns.span(diagram.order[0])
    for own in range(diagram.next[0].shape[1]):
        keep = np.ones(len(columns), dtype=np.bool_)
        keep[here] = diagram.classes[here] == own
        solved = presolve(problem.only(keep), quick=True)
        if solved is None or not _is_free(solved.problem.diagram):
            return [problem]
        found.append(solved.problem)
    return found


def _is_free(diagram: Diagram | None) -> bool:
    """True if every choice is on a path: there is one state between any two layers, and columns on no path are dropped."""
    return diagram is not None and diagram.whole and all(len(table) == 1 for table in diagram.next)


def _most(problem: Problem) -> int:
    """Return the largest possible sum."""
    return int(problem.columns.most(problem.goal.values).sum())


def _largest_below(problem: Problem, rank: Fraction | None) -> int:
    """Return the largest sum of a problem whose rank is below `rank`; without a rank, the largest possible sum."""
    low, high = int(problem.columns.least(problem.goal.values).sum()) - 1, _most(problem)
    while rank is not None and low < high:
        middle = -(-(low + high) // 2)
        low, high = (middle, high) if problem.goal.rank(middle) < rank else (low, middle - 1)
    return high
