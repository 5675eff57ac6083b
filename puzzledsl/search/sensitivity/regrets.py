"""Optimum of a problem with each of many pins: proven, or with lower and upper bounds when time is up.

Each pin's Lagrangian bound is derived from the one without pins (pin_prices.py). Beam searches over many pins at once find good
answers; each is an upper bound for every pin that it has (pin_answers.py). Label setting (pin_sweep.py) then looks for each pin's
best answer, between its bound and the known answer or at growing distances above the bound. Pins that take too many labels are
minimised one by one.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from puzzledsl.search.effort import Effort
from puzzledsl.search.lagrangian.bound import Bound, lagrangian_bound
from puzzledsl.search.portfolio.minimise import minimise
from puzzledsl.search.problem.columns import Ints, Mask
from puzzledsl.search.problem.instance import Problem
from puzzledsl.search.problem.paths import paths_of
from puzzledsl.search.problem.presolve import presolve
from puzzledsl.search.sensitivity.pin_answers import PinsOfColumns
from puzzledsl.search.sensitivity.pin_prices import PinBounds, bounds_at, pin_bounds
from puzzledsl.search.sensitivity.pin_sweep import sweep_pins
from puzzledsl.search.sensitivity.pins import Pin, classes_of, without

TOGETHER = 48  # pins in a sweep
# Distances above a pin's bound at which sweeps end, in units of the gap between the optimum and its bound.
FIRST_REACHES = (1.3, 1.6, 2.1)
REACHES = (1.3, 2.1, 3.4, 5.5)  # the same, above bounds at each pin's own best prices
BEAM_REACH = 1.7  # the same, for beam searches
BEAM_TOGETHER = 96  # pins in a beam search
BEAM = 24  # labels per pin and stage of a beam search
NEAR = 0.3  # a round extends to the best known answer if that is at most this many gaps further
CORE = 1.25  # columns per layer whose slack estimates the gap, if it is smaller
WORK = 300_000  # labels of a pin before it is minimised on its own
WORK_WITH_FORMULAS = 20_000  # the same with formulas, which labels do not check
SLICES_S = (0.5, 4.0, 30.0)  # seconds for a pin on its own, by round; the last round has all the time left


@dataclass(slots=True, eq=False)
class Optima:
    """Result by pin: lower bound `lower`, and the answer `chosen` with the sum `upper`, if `found`.

    `none`: proven that no answer within the limit of interest has the pin.
    """

    lower: Ints
    upper: Ints
    chosen: Ints
    found: Mask
    none: Mask

    @property
    def open(self) -> Mask:
        """Mask of the pins whose optimum is not known yet."""
        return np.asarray(~self.none & ~(self.found & (self.lower >= self.upper)))

    def keep(self, pin: int, chosen: Ints, value: int) -> None:
        """Keep an answer for a pin if it is better than the known one."""
        if not self.found[pin] or value < self.upper[pin]:
            self.chosen[pin], self.upper[pin], self.found[pin] = chosen, value, True


def optima_of(
    problem: Problem,
    pins: Sequence[Pin],
    best: Ints,
    floor: int,
    effort: Effort,
    at_most: Ints | None = None,
) -> Optima:
    """Find the optimum with each pin. `best`: best known answer without pins. `floor`: lower bound on all answers.

    Only answers with sums up to `at_most[pin]` are of interest.
    """
    return _Pinned(problem, pins, best, floor, effort, at_most).run()


class _Pinned:
    def __init__(
        self,
        problem: Problem,
        pins: Sequence[Pin],
        best: Ints,
        floor: int,
        effort: Effort,
        at_most: Ints | None,
    ) -> None:
        self.effort = effort
        presolved = presolve(problem, deadline=effort.deadline)
        assert presolved is not None, "a problem with an answer has a column for every layer"
        self.whole, self.problem, self.origin = problem, presolved.problem, presolved.origin
        kept = np.zeros(len(problem.columns), dtype=np.bool_)
        kept[self.origin] = True
        self.pins = [without(pin, kept) for pin in pins]
        self.sharing = PinsOfColumns.of(self.problem, self.pins)
        self.best = (np.cumsum(kept) - 1)[best]
        self.value = self.problem.goal.of(self.best)
        self.top = int(self.problem.columns.most(self.problem.goal.values).sum())
        count, layers = len(pins), problem.columns.layers
        self.at_most = np.full(count, self.top) if at_most is None else np.minimum(at_most, self.top)
        self.optima = Optima(
            lower=np.full(count, floor),
            upper=np.full(count, self.top),
            chosen=np.zeros((count, layers), dtype=np.int64),
            found=np.zeros(count, dtype=np.bool_),
            none=np.array([not len(pin.columns) for pin in self.pins]) | (self.at_most < floor),
        )

    def run(self) -> Optima:
        """Run cheap proofs, then sweeps over many pins, then minimise the remaining pins one by one."""
        optima = self.optima
        self._in_the_optimum()
        self._too_much_of_a_row()
        self._one_change()
        first = classes_of(self.problem, self.pins)
        first = np.where(self.at_most == self.at_most[first], first, np.arange(len(first)))
        for number in (~optima.open & (first != np.arange(len(first)))).nonzero()[0].tolist():
            self._give(int(first[number]), number)
        some = (optima.open & (first == np.arange(len(first)))).nonzero()[0]
        if len(some):
            bound = lagrangian_bound(self.problem)
            if (
                paths_of(self.problem) is not None
            ):  # the slack accounts for the formulas, and single searches with a diagram are fast
                self._slack_bounds(some, bound)
            else:
                bounds = pin_bounds(self.problem, bound, [self.pins[i] for i in some])
                some = self._sweeps(some, bound, bounds)
            self._one_by_one(some)
        for number in (optima.open & (first != np.arange(len(first)))).nonzero()[0].tolist():
            self._give(number, int(first[number]))
        optima.chosen = self.origin[optima.chosen]
        self._checked()
        return optima

    def _slack_bounds(self, some: Ints, bound: Bound) -> None:
        """Raise the lower bounds of pins to the bound plus the least slack of their columns."""
        optima = self.optima
        for number in some.tolist():
            slack = int(bound.slack[self.pins[number].columns].min())
            lower = -(-(bound.exact + slack) // bound.scale)
            optima.lower[number] = min(max(int(optima.lower[number]), lower), self.top + 1)
            optima.none[number] |= not optima.found[number] and lower > self.at_most[number]

    def _in_the_optimum(self) -> None:
        for number, pin in enumerate(self.pins):
            if self.best[pin.layer] in pin.columns and self.value <= self.at_most[number]:
                self.optima.keep(number, self.best, self.value)

    def _too_much_of_a_row(self) -> None:
        """Mark pins as infeasible that exceed a row even with the least use of every other layer."""
        columns, optima = self.problem.columns, self.optima
        least = columns.least(self.problem.matrix)
        spare = self.problem.limits - least.sum(axis=1)
        for number, pin in enumerate(self.pins):
            if not optima.none[number]:
                own = self.problem.matrix[:, pin.columns] - least[:, pin.layer, None]
                optima.none[number] = not (own <= spare[:, None]).all(axis=0).any()

    def _one_change(self) -> None:
        """Keep for each pin the best feasible answer that differs from the optimum in one layer."""
        columns = np.arange(len(self.problem.columns))
        changed = np.repeat(self.best[None], len(columns), axis=0)
        changed[columns, self.problem.columns.layer_of] = columns
        values, fits = self._figures(changed)
        for number, pin in enumerate(self.pins):
            fitting = pin.columns[fits[pin.columns]]
            if len(fitting) and not self.optima.none[number]:
                column = fitting[np.argmin(values[fitting])]
                if values[column] <= self.at_most[number]:
                    self.optima.keep(number, changed[column], int(values[column]))

    def _figures(self, changed: Ints) -> tuple[Ints, Mask]:
        """Return the sums of answers [column][layer] that differ from the optimum in one layer, and the mask of feasible ones.

        Positions in runs of dropped layers are renumbered in place.
        """
        problem, best = self.problem, self.best
        if problem.columns.period:
            changed[:] = problem.columns.numbered(changed)
            fits = (changed >= 0).all(axis=1)
            changed[~fits] = best
            values, use = problem.goal.values[changed].sum(axis=1), problem.matrix[:, changed].sum(axis=2)
        else:
            own = best[problem.columns.layer_of]
            values = self.value - problem.goal.values[own] + problem.goal.values
            use = problem.matrix[:, best].sum(axis=1)[:, None] - problem.matrix[:, own] + problem.matrix
            fits = np.ones(len(changed), dtype=np.bool_)
        fits &= (use <= problem.limits[:, None]).all(axis=0)
        if problem.formulas:
            fits[fits] = self.problem.meeting_formulas(changed[fits])
        return values, fits

    def _give(self, number: int, source: int) -> None:
        """Copy the optimum of another pin of the same class; the two layers are exchanged in the answer."""
        optima = self.optima
        for values in (optima.lower, optima.upper, optima.found, optima.none):
            values[number] = values[source]
        optima.chosen[number] = chosen = optima.chosen[source].copy()
        here, there = self.pins[number].layer, self.pins[source].layer
        shift = self.problem.columns.start[there] - self.problem.columns.start[here]
        if here != there:
            optima.chosen[number, here], optima.chosen[number, there] = (
                chosen[there] - shift,
                chosen[here] + shift,
            )

    def _checked(self) -> None:
        """Verify every answer: its pin, its sum, and every row and formula. Raises RuntimeError, which is a bug of the solver."""
        optima, whole = self.optima, self.whole
        for number in optima.found.nonzero()[0].tolist():
            chosen = optima.chosen[number]
            has = self.origin[self.pins[number].columns]
            layer = self.pins[number].layer
            if not (
                chosen[layer] in has
                and whole.goal.of(chosen) == optima.upper[number]
                and whole.is_feasible(chosen)
            ):
                raise RuntimeError(
                    "the answer found for a pin does not have it or does not meet the requirements"
                )

    # -------------------------------------------------------- many at once

    def _sweeps(self, some: Ints, bound: Bound, bounds: PinBounds) -> Ints:
        """Sweep open pins, further in each round. Return the pins that are still open."""
        gap = self._gap(bound)
        self._bounded(some, bounds)
        self._beams(some, bounds, gap)
        self._rounds(some, bounds, gap, FIRST_REACHES)
        some = some[self.optima.open[some]]
        if len(some) and self.effort.left_s > 0:
            bounds = self._own_bounds(some)
            self._rounds(some, bounds, gap, REACHES)
        return some[self.optima.open[some]]

    def _beams(self, some: Ints, bounds: PinBounds, gap: float) -> None:
        """Find answers of pins by beam search; they limit the full sweeps."""
        optima, base = self.optima, bounds.values()
        left = (optima.open[some] & bounds.fits).nonzero()[0]
        for begin in range(0, len(left), BEAM_TOGETHER):
            if self.effort.left_s <= 0:
                return
            part = left[begin : begin + BEAM_TOGETHER]
            pins = some[part]
            most = np.minimum(base[part] + int(BEAM_REACH * gap) + 1, self.at_most[pins])
            most = np.where(optima.found[pins], np.minimum(most, optima.upper[pins] - 1), most)
            self._swept(pins, bounds[part], most, BEAM * len(pins))

    def _share(self, answers: Ints, values: Ints) -> None:
        """Keep the best of given answers for every pin that they have."""
        optima = self.optima
        for number, place in self.sharing.best(answers, values):
            if values[place] <= self.at_most[number]:
                optima.keep(number, answers[place], int(values[place]))

    def _bounded(self, some: Ints, bounds: PinBounds) -> None:
        """Raise the lower bounds of pins. A bound above the limit of interest proves that a pin has no answer of interest."""
        optima, values = self.optima, bounds.values()
        optima.lower[some] = np.where(bounds.fits, np.maximum(optima.lower[some], values), optima.lower[some])
        optima.none[some] |= bounds.fits & (values > self.at_most[some]) & ~optima.found[some]

    def _own_bounds(self, some: Ints) -> PinBounds:
        """Compute and keep bounds of pins, each at its own best prices; for pins far from the optimum."""
        prices = np.zeros((len(some), len(self.problem.rows)))
        for place, number in enumerate(some.tolist()):
            if self.effort.left_s <= 0:
                break
            own = lagrangian_bound(self.problem.only(self.pins[number].keep(self.problem.columns)))
            self.optima.none[number] |= own.infeasible
            prices[place] = own.float_prices
        bounds = bounds_at(self.problem, [self.pins[i] for i in some], prices)
        self._bounded(some, bounds)
        return bounds

    def _rounds(self, some: Ints, bounds: PinBounds, gap: float, reaches: Sequence[float]) -> None:
        """Sweep open pins up to `reach * gap` above their bounds, for each reach. Pins that take too many labels drop out."""
        optima, base = self.optima, bounds.values()
        given_up = ~bounds.fits
        for reach in reaches:
            left = (optima.open[some] & ~given_up).nonzero()[0]
            if not len(left) or self.effort.left_s <= 0:
                return
            most = np.minimum(base + int(reach * gap) + 1, self.at_most[some])
            near = optima.found[some] & (optima.upper[some] - 1 <= most + int(NEAR * gap))
            most = np.where(near, optima.upper[some] - 1, most)
            for begin in range(0, len(left), TOGETHER):
                part = left[begin : begin + TOGETHER]
                complete = self._swept(some[part], bounds[part], most[part])
                given_up[part[~complete]] = True

    def _swept(self, some: Ints, bounds: PinBounds, most: Ints, width: int | None = None) -> Mask:
        optima = self.optima
        pins = [self.pins[i] for i in some]
        work = WORK_WITH_FORMULAS if self.problem.formulas else WORK
        swept = sweep_pins(self.problem, pins, bounds, most, work, self.effort.deadline, width)
        for place, number in enumerate(some.tolist()):
            if swept.found[place]:
                optima.keep(number, swept.chosen[place], int(swept.value[place]))
            if swept.complete[place]:
                limit = int(swept.value[place] if swept.found[place] else most[place] + 1)
                optima.lower[number] = max(int(optima.lower[number]), limit)
                optima.none[number] |= not optima.found[number] and limit > self.at_most[number]
        self._share(swept.chosen[swept.found], swept.value[swept.found])
        return swept.complete

    def _gap(self, bound: Bound) -> float:
        """Estimate the distance of a pin's optimum from its bound."""
        place = min(int(CORE * self.problem.columns.layers), len(bound.slack) - 1)
        slack = float(np.sort(bound.slack.astype(np.float64))[place]) / bound.scale
        return max(self.value - bound.exact / bound.scale, slack)

    # -------------------------------------------------------- one at a time

    def _one_by_one(self, some: Ints) -> None:
        for slice_s in (*SLICES_S, None):
            width = self.optima.upper[some] - self.optima.lower[some]
            for number in some[np.argsort(width, kind="stable")].tolist():
                if self.effort.left_s <= 0:
                    return
                if self.optima.open[number]:
                    self._minimised(number, slice_s)

    def _minimised(self, number: int, slice_s: float | None) -> None:
        optima, pin = self.optima, self.pins[number]
        keep = pin.keep(self.problem.columns)
        deadline = (
            self.effort.deadline if slice_s is None else min(self.effort.deadline, time.monotonic() + slice_s)
        )
        most = int(min(self.at_most[number], optima.upper[number] - bool(optima.found[number])))
        outcome = minimise(
            self.problem.only(keep),
            replace(self.effort, gap=0.0, deadline=deadline),
            canonical=False,
            at_least=int(optima.lower[number]),
            at_most=None if most >= self.top else most,
        )
        if outcome.chosen is not None and outcome.value is not None:
            chosen = keep.nonzero()[0][outcome.chosen].astype(np.int64)
            optima.keep(number, chosen, outcome.value)
            self._share(chosen[None], np.array([outcome.value]))
        if outcome.proven:
            optima.none[number] = outcome.chosen is None and not optima.found[number]
            optima.lower[number] = optima.upper[number]
        elif outcome.bound is not None:
            optima.lower[number] = max(
                int(optima.lower[number]), min(outcome.bound, int(optima.upper[number]))
            )
