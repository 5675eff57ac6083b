"""Optimum of a search with each of many pins: the search is solved with one pin after another, and what is found is shared.

A pin fixes the alternative of one sub-block of one layer. The optimum without pins and the slack of the Lagrangian bound are
lower bounds of every pin; each answer is an upper bound of all the pins that it has. Pins are solved nearest bounds first, in
rounds with more time for each.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction

import numpy as np

from puzzledsl.alternatives.alternative import ENDS, Site, SubBlock
from puzzledsl.ir.tables import Assignment, EndsAssignment
from puzzledsl.search.answer import best_meeting_all, checked
from puzzledsl.search.effort import Effort
from puzzledsl.search.lagrangian.bound import Bound, lagrangian_bound
from puzzledsl.search.portfolio.minimise import minimise
from puzzledsl.search.problem.columns import Columns, Ints, Mask
from puzzledsl.search.problem.diagram import diagram_of
from puzzledsl.search.problem.instance import INFINITE, Problem, presolve
from puzzledsl.search.problem.metrics import Child
from puzzledsl.search.problem.paths import NEVER, Paths
from puzzledsl.search.problem.problem import Problems
from puzzledsl.search.tables import Tables

SUB_BLOCKS: tuple[SubBlock, SubBlock] = ("attention", "ffn")
SLICES_S = (0.5, 4.0, 30.0, 600.0)  # seconds for a pin, by round
FURTHER = 1.2  # first growth of a pin's reach, which starts at the median of the gaps seen; it grows itself
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
            return optima_over(listed, pins, root, effort)
    found = [UNKNOWN] * len(pins)
    for number, slice_s in _turns(found, effort):
        own = Effort.of(min(slice_s, effort.left_s))
        found[number] = found[number].and_also(standing(tables, pinned(problems, pins[number]), own))
    return found


def optima_over(
    listed: Sequence[Problem], pins: Sequence[Pin], root: Standing, effort: Effort
) -> list[Standing]:
    """Find the optimum with each pin over several problems with exact integers, one for each combination of batches."""
    return _Pinned(listed, pins, root, effort).run()


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


@dataclass(slots=True, eq=False)
class _Part:
    """The problem of one combination of batches, and by pin the lower bound on its sum (`none`: there is no child).

    `gaps`: distances of the optima found from the bounds of their pins, ascending. `answers`: those found, to be verified.
    """

    problem: Problem
    bound: Bound
    lower: Ints
    none: Mask
    gaps: list[int] = field(default_factory=list)
    answers: list[Ints] = field(default_factory=list)

    def verify(self) -> None:
        """Raise RuntimeError if an answer does not meet the requirements."""
        if self.answers:
            answers = np.array(self.answers)
            within = self.problem.matrix[:, answers].sum(axis=2) <= self.problem.limits[:, None]
            if not (within.all() and self.problem.meeting_formulas(answers).all()):
                raise RuntimeError("an answer found for a pin does not meet the requirements")

    def without(self, number: int, at_most: int) -> None:
        """Note that no child with a pin has a sum up to `at_most`."""
        self.lower[number] = max(int(self.lower[number]), at_most + 1)
        self.none[number] = at_most >= _most(self.problem)


class _Pinned:
    """See `optima_over`."""

    def __init__(
        self, listed: Sequence[Problem], pins: Sequence[Pin], root: Standing, effort: Effort
    ) -> None:
        self.pins, self.root, self.effort = pins, root, effort
        self.number = {(pin.layer, pin.sub_block, pin.alternative): n for n, pin in enumerate(pins)}
        self.found = [UNKNOWN] * len(pins)
        solved = (presolve(problem, deadline=effort.deadline) for problem in listed)
        self.parts = [self._part(each.problem) for each in solved if each is not None]

    def run(self) -> list[Standing]:
        """Share what the optimum says, then solve with one pin after another."""
        self._near_the_optimum()
        self._settle(range(len(self.pins)))
        for number, slice_s in _turns(self.found, self.effort):
            for part in self.parts:
                self._solve(part, number, min(slice_s, self.effort.left_s))
            self._settle([number])
        for part in self.parts:
            part.verify()
        return self.found

    def _part(self, problem: Problem) -> _Part:
        """Bound the pins by the slack of their columns."""
        bound, columns = lagrangian_bound(problem, deadline=self.effort.deadline), problem.columns
        lower = np.full(len(self.pins), bound.value)
        none = np.full(len(self.pins), bound.infeasible)
        for number, pin in enumerate(self.pins):
            slack = bound.slack[pin.own(columns)]
            none[number] |= not len(slack)
            if not none[number]:
                lower[number] = min(-(-(bound.exact + int(slack.min())) // bound.scale), _most(problem) + 1)
        return _Part(problem, bound, lower, none | (lower > _most(problem)))

    def _near_the_optimum(self) -> None:
        """Share the optimum, and answers that are cheap with each pin."""
        for part in self.parts:
            best = None if self.root.layers is None else part.problem.indices(self.root.layers)
            if best is not None and dict(part.problem.batches) == dict(self.root.batches or {}):
                self._share(part.problem, best)
                if self.root.settled:
                    part.gaps.append(part.problem.goal.of(best) - part.bound.value)
                    part.lower = np.maximum(part.lower, part.problem.goal.of(best))
            self._cheapest_with(part)

    def _cheapest_with(self, part: _Part) -> None:
        """Share for each pin the best of the answers that are cheapest with it at multiples of the bound's prices."""
        problem, columns = part.problem, part.problem.columns
        diagram = problem.diagram or diagram_of(columns, ())
        assert diagram is not None, "there always is a diagram of no formulas"
        paths = Paths(columns, diagram)
        priced = problem.goal.values + np.outer(DEARER, part.bound.float_prices @ problem.matrix)
        open_pins = [pin for number, pin in enumerate(self.pins) if not part.none[number]]
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
            if len(diagram.covered) < len(problem.formulas):
                meets[meets] = problem.meeting_formulas(answers[meets])
            sums = np.where(meets, problem.goal.values[answers].sum(axis=1), NEVER)
            for place, pin in zip(range(0, len(sums), len(DEARER)), pins, strict=True):
                best = place + int(sums[place : place + len(DEARER)].argmin())
                if meets[best]:
                    self._share(problem, answers[best], pin)

    def _share(self, problem: Problem, chosen: Ints, only: Pin | None = None) -> None:
        """Keep an answer for every pin that it has, or for `only` one, if it is better than the known one."""
        layers, most = problem.choice(chosen), problem.goal.rank(problem.goal.of(chosen))
        everywhere = [(i, s) for i, choice in enumerate(layers) for s in sites_of((choice,))]
        places = [(only.layer, only.sub_block)] if only else everywhere
        for layer, sub_block in places:
            number = self.number.get((layer, sub_block, getattr(layers[layer], sub_block)))
            if number is not None:
                known = self.found[number].most
                if known is None or most < known:
                    self.found[number] = Standing(self.found[number].least, most, layers, problem.batches)

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
                part.answers.append(chosen)
                self._share(problem, chosen)
                insort(part.gaps, problem.goal.of(chosen) - bound.value)
            if not found.infeasible:
                return
            reach, further = int(reach * further) + 1, further * FURTHER

    def _settle(self, numbers: Sequence[int]) -> None:
        """Take the least lower bound over all problems; the optimum without pins is one, too."""
        for number in numbers:
            least = [p.problem.goal.rank(int(p.lower[number])) for p in self.parts if not p.none[number]]
            now = self.found[number]
            if now.most is not None:
                least = [min(now.most, *least)]
            at_best = -INFINITE if self.root.least is None else self.root.least
            self.found[number] = replace(now, least=max(at_best, min(least))) if least else NO_CHILD


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
