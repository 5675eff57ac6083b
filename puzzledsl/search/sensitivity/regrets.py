"""Optimum of a search with each of many pins: the search is solved with one pin after another, and what is found is shared.

A pin fixes the alternative of one sub-block of one layer. The optimum without pins and the slack of the Lagrangian bound are
lower bounds of every pin; each answer is an upper bound of all the pins that it has. Pins are solved nearest bounds first, in
rounds with more time for each.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from puzzledsl.alternatives.alternative import SubBlock
from puzzledsl.ir.tables import LayerAssignment
from puzzledsl.search.answer import best_meeting_all, checked
from puzzledsl.search.effort import Effort
from puzzledsl.search.lagrangian.bound import lagrangian_bound
from puzzledsl.search.portfolio.minimise import minimise
from puzzledsl.search.problem.columns import Columns, Ints, Mask
from puzzledsl.search.problem.instance import INFINITE, Problem, presolve
from puzzledsl.search.problem.metrics import Child
from puzzledsl.search.problem.problem import Problems
from puzzledsl.search.tables import Tables

SUB_BLOCKS: tuple[SubBlock, SubBlock] = ("attention", "ffn")
SLICES_S = (0.5, 4.0, 30.0, 600.0)  # seconds for a pin, by round
TRIED = 2  # answers of a pin that differ from the optimum in one layer and whose formulas are evaluated


@dataclass(frozen=True, slots=True)
class Pin:
    """An alternative fixed in one sub-block of one layer."""

    layer: int
    sub_block: SubBlock
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
        for sub_block in SUB_BLOCKS
        for name in dict.fromkeys(getattr(choice, sub_block) for choice in columns.of_layer(layer))
    ]


@dataclass(frozen=True, slots=True)
class Standing:
    """Bounds on an optimum, as ranks (less is better): lower bound `least`, and `most`, reached by the child of `layers`.

    Both are None if no child exists; only `most` is None if none was found.
    """

    least: Fraction | None
    most: Fraction | None
    layers: tuple[LayerAssignment, ...] | None = None
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
    """The problem of one combination of batches, and by pin the lower bound on its sum (`none`: there is no child)."""

    problem: Problem
    lower: Ints
    none: Mask


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
        sources = _alike([part.problem for part in self.parts], self.pins)
        for number in (n for n, source in enumerate(sources) if source != n):
            self.found[number] = NO_CHILD  # until that of its source is known
        for number, slice_s in _turns(self.found, self.effort):
            for part in self.parts:
                self._solve(part, number, min(slice_s, self.effort.left_s))
            self._settle([number])
        for number, source in enumerate(sources):
            if source != number:
                self.found[number] = self._exchanged(source, number)
        return self.found

    def _part(self, problem: Problem) -> _Part:
        """Bound the pins by the slack of their columns."""
        bound, columns = lagrangian_bound(problem), problem.columns
        lower = np.full(len(self.pins), bound.value)
        none = np.full(len(self.pins), bound.infeasible)
        for number, pin in enumerate(self.pins):
            slack = bound.slack[pin.own(columns)]
            none[number] |= not len(slack)
            if not none[number]:
                lower[number] = min(-(-(bound.exact + int(slack.min())) // bound.scale), _most(problem) + 1)
        return _Part(problem, lower, none | (lower > _most(problem)))

    def _near_the_optimum(self) -> None:
        """Share the optimum, and for each pin the best answers that differ from it in one layer."""
        for part in self.parts:
            best = None if self.root.layers is None else part.problem.indices(self.root.layers)
            if best is None or dict(part.problem.batches) != dict(self.root.batches or {}):
                continue
            self._share(part.problem, best)
            if self.root.settled:
                part.lower = np.maximum(part.lower, part.problem.goal.of(best))
            for pin in self.pins:
                for changed in _one_change(part.problem, best, pin):
                    self._share(part.problem, changed, pin)

    def _share(self, problem: Problem, chosen: Ints, only: Pin | None = None) -> None:
        """Keep an answer for every pin that it has, or for `only` one, if it is better than the known one."""
        layers, most = problem.choice(chosen), problem.goal.rank(problem.goal.of(chosen))
        places = (
            [(only.layer, only.sub_block)]
            if only
            else [(i, s) for i in range(len(layers)) for s in SUB_BLOCKS]
        )
        for layer, sub_block in places:
            number = self.number.get((layer, sub_block, getattr(layers[layer], sub_block)))
            if number is not None:
                known = self.found[number].most
                if known is None or most < known:
                    self.found[number] = Standing(self.found[number].least, most, layers, problem.batches)

    def _solve(self, part: _Part, number: int, time_s: float) -> None:
        """Solve one problem with a pin, if it can have a better answer than the known one."""
        problem, known = part.problem, self.found[number].most
        at_most = _largest_below(problem, known)
        if part.none[number] or part.lower[number] > at_most:
            return
        keep = self.pins[number].keep(problem.columns)
        outcome = minimise(
            problem.only(keep),
            replace(self.effort, gap=0.0, deadline=Effort.of(time_s).deadline),
            canonical=False,
            at_least=int(part.lower[number]),
        )
        if outcome.chosen is not None:
            chosen = keep.nonzero()[0][outcome.chosen].astype(np.int64)
            if not problem.is_feasible(chosen):
                raise RuntimeError("the answer found for a pin does not meet the requirements")
            self._share(problem, chosen)
            part.lower[number] = problem.goal.of(chosen) if outcome.proven else part.lower[number]
        elif outcome.proven:
            part.none[number] = True
        if outcome.bound is not None and not outcome.proven:
            part.lower[number] = max(int(part.lower[number]), outcome.bound)

    def _settle(self, numbers: Sequence[int]) -> None:
        """Take the least lower bound over all problems; the optimum without pins is one, too."""
        for number in numbers:
            least = [p.problem.goal.rank(int(p.lower[number])) for p in self.parts if not p.none[number]]
            now = self.found[number]
            if now.most is not None:
                least = [min(now.most, *least)]
            at_best = -INFINITE if self.root.least is None else self.root.least
            self.found[number] = replace(now, least=max(at_best, min(least))) if least else NO_CHILD

    def _exchanged(self, source: int, number: int) -> Standing:
        """Return the optimum of a pin of a like layer, with the two layers exchanged in its child."""
        known = self.found[source]
        if known.layers is None:
            return known
        layers, here, there = [*known.layers], self.pins[number].layer, self.pins[source].layer
        layers[here], layers[there] = layers[there], layers[here]
        return replace(known, layers=tuple(layers))


def _one_change(problem: Problem, best: Ints, pin: Pin) -> Iterator[Ints]:
    """Yield the cheapest answer that differs from `best` in the pin's layer only, if one of the first TRIED is an answer."""
    own, old = pin.own(problem.columns), best[pin.layer]
    use = problem.matrix[:, best].sum(axis=1) - problem.matrix[:, old]
    own = own[(use[:, None] + problem.matrix[:, own] <= problem.limits[:, None]).all(axis=0)]
    for column in own[np.argsort(problem.goal.values[own], kind="stable")][:TRIED].tolist():
        changed = best.copy()
        changed[pin.layer] = column
        answer = problem.indices(problem.choice(changed)) if problem.columns.period else changed
        if answer is not None and problem.is_feasible(answer):
            yield answer
            return


def _alike(problems: Sequence[Problem], pins: Sequence[Pin]) -> list[int]:
    """Return, for each pin, the first pin that must have the same optimum.

    This is the same alternative in a layer with equal values, up to constants. With formulas or scores of runs, which distinguish
    layers, every pin is its own.
    """
    if any(problem.formulas or problem.columns.period for problem in problems):
        return [*range(len(pins))]
    keys: dict[int, bytes] = {}
    for layer in dict.fromkeys(pin.layer for pin in pins):
        keys[layer] = b""
        for problem in problems:
            here = slice(*problem.columns.start[layer : layer + 2].tolist())
            figures = np.vstack([problem.goal.values[here], problem.matrix[:, here]])
            keys[layer] += np.ascontiguousarray(figures - figures.min(axis=1, keepdims=True)).tobytes()
            keys[layer] += repr(problem.columns.of_layer(layer)).encode()
    first: dict[tuple[bytes, str, str], int] = {}
    return [
        first.setdefault((keys[pin.layer], pin.sub_block, pin.alternative), number)
        for number, pin in enumerate(pins)
    ]


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
