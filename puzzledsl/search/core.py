"""Minimise a problem: bound it, keep the columns that can be in a good answer, search that core, prove the rest cannot matter.

Sweeps over the core's layers look for an answer just above the bound, then a little further above it, until there is one: that
is the best, since there was none below. CP-SAT takes over where there are too many partial models.

The answer is canonical: of all best answers, the one whose columns come first in the order of the space (layer 0 decides first).
So it depends on no seed and no number of workers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from puzzledsl.search.bound import Bound, lagrangian_bound
from puzzledsl.search.cpsat import Answer, Effort, run_cpsat
from puzzledsl.search.first import first_of_the_best
from puzzledsl.search.gaps import bound_enough, good_enough, within_gap
from puzzledsl.search.incumbent import find_incumbent
from puzzledsl.search.instance import Ints, Mask, Problem
from puzzledsl.search.layered import sweep
from puzzledsl.search.layout import layout_of
from puzzledsl.search.polish import TOGETHER, polished, walked
from puzzledsl.search.presolve import presolve
from puzzledsl.search.symmetry import symmetry_of

FIRST_CORE = 4  # columns a layer, on average, of the first core where no answer is known
WIDER = 3  # times as many columns for the next core
DAMPED = 0.8  # of the growth of the number of models, that goes on
FIRST_REACH = 0.1  # of the way from the bound to the first answer known, that is searched first
MANY = 20_000  # columns, from which on an answer within a gap is sought harder; with fewer, exchanges of two find it sooner
BEAM = 100  # models that a first look for an answer within a gap follows
BEAM_REACH = 0.3  # of that gap, where it looks
FURTHER = 1.6  # times as far the next time
WORK = 5.0  # CP-SAT's deterministic seconds for alike layers, before their models are swept
FAR = 4  # times as far where no answer is known


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """The end of a minimisation. `chosen` are columns of the problem that was given; `bound` is a proven bound on the sum.

    `proven` with no answer: there is none. `proven` with one: no better one, up to the gap that was asked for.
    """

    chosen: Ints | None
    value: int | None
    bound: int | None
    proven: bool

    @property
    def infeasible(self) -> bool:
        """Proven to have no answer."""
        return self.proven and self.chosen is None


NONE = Outcome(None, None, None, True)


def minimise(
    problem: Problem,
    effort: Effort,
    canonical: bool = True,
    at_least: int | None = None,
    bound: Bound | None = None,
    at_most: int | None = None,
) -> Outcome:
    """A best answer of a problem, the canonical one unless `canonical` is off or a gap stopped the proof early.

    `at_least` is a bound that is already proven: of the same problem with fewer rows, say. `bound`: the problem's own, where it
    is known. Only answers of `at_most` something are sought: "there is none" then says there is none of those.
    """
    presolved = presolve(problem)
    if presolved is None:
        return NONE
    origin = presolved.origin
    if bound is None or presolved.problem is not problem:
        problem = presolved.problem
        bound = lagrangian_bound(problem)
    if bound.infeasible:
        return NONE
    floor = bound.value if at_least is None else max(at_least, bound.value)
    found = _Search(problem, bound, effort, floor, at_most).run(canonical)
    return found if found.chosen is None else replace(found, chosen=origin[found.chosen])


class _Search:
    """What is known of a problem so far: the best answer, and `lower`, a bound on all."""

    def __init__(
        self, problem: Problem, bound: Bound, effort: Effort, floor: int, at_most: int | None = None
    ) -> None:
        self.problem, self.bound, self.effort = problem, bound, effort
        self.lower, self.at_most = floor, at_most
        self.top = int(problem.columns.most(problem.goal.values).sum())
        self.top = self.top if at_most is None else min(self.top, at_most)
        self.hasty = bool(effort.gap) and at_most is None and len(problem.columns) >= MANY
        self.chosen: Ints | None = None
        self.value: int | None = None

    def run(self, canonical: bool) -> Outcome:
        """Sweep; ask CP-SAT where that does not settle it."""
        self._first_answer()
        if self.effort.gap and self._polished_enough():
            return self._outcome(proven=True)
        if self.effort.gap and symmetry_of(self.problem) is not None and self._cores(WORK):
            return self._outcome(proven=True)  # alike layers: their counts are few, their models are many
        if self._sweeps():
            return self._outcome(proven=True)
        if self._close_enough() or self.effort.left_s <= 0:
            return self._outcome(proven=self._close_enough())
        if canonical and self._only_best():
            return self._outcome(proven=True)
        proven = self.lower == self.value or self._close_enough() or self._cores()
        if proven and self.chosen is not None and self.value == self.lower and canonical:
            self.chosen = first_of_the_best(self.problem, self.bound, self.chosen, self.effort)
        return self._outcome(proven)

    def _outcome(self, proven: bool) -> Outcome:
        if self.value is None and self.at_most is not None and proven:
            return Outcome(None, None, max(self.lower, self.at_most + 1), True)
        if self.value is None:
            return NONE if proven else Outcome(None, None, self.lower, False)
        return Outcome(self.chosen, self.value, min(self.lower, self.value), proven)

    def _better(self, chosen: Ints, value: int) -> None:
        if self.at_most is not None and value > self.at_most:
            return
        if self.value is None or value <= self.value:
            self.chosen, self.value = chosen, value

    def _close_enough(self) -> bool:
        return self.value is not None and within_gap(
            self.problem.goal, self.value, self.lower, self.effort.gap
        )

    def _first_answer(self) -> None:
        """Any answer: of a narrow sweep where a gap will do and columns are many, else repaired from the cheapest columns."""
        if self.hasty:
            bound = self.bound.value
            reach = good_enough(self.problem.goal, bound, self.top, self.effort.gap) - bound
            self._sweep(bound + int(reach * BEAM_REACH), None, BEAM)
        if self.value is None and self.at_most is None:
            found = find_incumbent(self.problem, self.bound)
            if found is not None:
                self._better(found, self.problem.goal.of(found))

    def _polished_enough(self) -> bool:
        """Whether the answer known, or one near it, is within the gap that was asked for."""
        for chosen in self._polished():
            self._better(chosen, self.problem.goal.of(chosen))
            if self._close_enough() or self.effort.left_s <= 0:
                break
        return self._close_enough()

    def _polished(self) -> Iterator[Ints]:
        """Better answers near the one known."""
        if self.chosen is not None and not self._close_enough():
            together = 1 if self.hasty else TOGETHER
            yield from polished(self.problem, self.bound, self.chosen, together)
            if self.hasty:
                yield from walked(self.problem, self.bound, self.chosen)

    # -------------------------------------------------------- sweeps

    def _sweeps(self) -> bool:
        """Whether sweeps, each further above the bound, settle it: the best answer, the canonical one, or that there is none."""
        reach, left = self._first_reach(), self.effort.models
        seen: list[tuple[int, int]] = []  # how far, and how many models that took
        while left > 0 and self.effort.left_s > 0:
            most = self._next_most(reach)
            if most >= self.lower:
                if _foreseen(seen, most) > left:
                    return False
                models = self._sweep(most, left)
                seen.append((most, models))
                left -= models
                if left <= 0:
                    return False
            if self.value is not None and self.value <= most:
                self.lower = self.value
                return True
            if most >= self.top and self.value is None:
                return True
            self.lower = max(self.lower, most + 1)
            if self.effort.gap and self._close_enough():
                return True
            reach = int(reach * (FAR if self.value is None else FURTHER)) + 1
        return False

    def _next_most(self, reach: int) -> int:
        """How far the next sweep looks: `reach` above the bound, no further than settles it. Where a gap will do and that is not
        twice as far, as far as settles it."""
        most = self.bound.value + reach
        if self.value is None or not self.effort.gap:
            return min(most, self.top if self.value is None else self.value)
        enough = bound_enough(self.problem.goal, self.value, self.bound.value, self.effort.gap) - 1
        return enough if most + reach >= enough else most

    def _first_reach(self) -> int:
        if self.at_most is not None:
            return max(0, self.at_most - self.bound.value)
        if self.value is None:
            slack = np.sort(self.bound.slack)
            at = int(slack[min(FIRST_CORE * self.problem.columns.layers, len(slack) - 1)])
            return max(1, -(-at // self.bound.scale))
        return int((self.value - self.bound.value) * FIRST_REACH)

    def _sweep(self, most: int, work: int | None, width: int | None = None) -> int:
        """Search the answers up to `most`; how many models it took, `work` where that were not enough. With a `width` only for
        better ones: nothing is proven."""
        keep = self.bound.within(most)
        layout = layout_of(self.problem.only(keep), self.bound, most)
        if layout is None:
            return work or 0
        known = self.top + 1 if self.value is None and width is not None else self.value
        swept = sweep(layout, most, known=known, width=width, work=work, deadline=self.effort.deadline)
        if swept.chosen is not None and swept.value is not None:
            self._better(keep.nonzero()[0][swept.chosen].astype(np.int64), swept.value)
        if not swept.complete and width is None:
            self.lower = max(self.lower, swept.bound or self.lower)
            return work or 0
        return swept.models

    # -------------------------------------------------------- CP-SAT

    def _only_best(self) -> bool:
        """Whether no other answer is as good as the one known: proven in one go, which is easier than to prove it best first
        and the only one then. Keeps a better one, or one as good, that is found instead."""
        if self.chosen is None or self.value is None:
            return False
        keep = self.bound.within(self.value)
        core = self.problem.only(keep)
        if symmetry_of(core) is not None:
            return False  # to tell one answer from the others would tell alike layers apart
        apart = core.apart_from(self.problem.choice(self.chosen), 1)
        found = run_cpsat(core.with_rows(apart), self.effort, at_least=self.lower, at_most=self.value)
        if found.proven and found.chosen is None:
            self.lower = self.value
            return True
        if found.chosen is not None:
            chosen = keep.nonzero()[0][found.chosen].astype(np.int64)
            self._better(chosen, self.problem.goal.of(chosen))
        if found.bound is not None:
            self.lower = max(self.lower, min(found.bound, self.value))
        return False

    def _cores(self, work: float | None = None) -> bool:
        """Grow the core until no column outside it can be in a better answer than the one found inside."""
        effort = self.effort if work is None else replace(self.effort, work=work)
        limit = self._core_limit(FIRST_CORE * self.problem.columns.layers)
        while True:
            keep = self.bound.within(limit)
            found = self._solve_inside(keep, effort)
            if found.chosen is not None:
                chosen = keep.nonzero()[0][found.chosen].astype(np.int64)
                self._better(chosen, self.problem.goal.of(chosen))
            outside = self.bound.beyond(keep)
            inside = found.bound if found.bound is not None else (None if found.proven else self.lower)
            bounds = [b for b in (inside, outside) if b is not None]
            if found.proven and self.value is None and (outside is None or self._beyond(limit)):
                return True
            lower = min(bounds, default=self.value or self.lower)
            self.lower = max(self.lower, lower if self.value is None else min(lower, self.value))
            if self.value is not None and (self.lower >= self.value or self._close_enough()):
                return True
            if not found.proven or self.effort.left_s <= 0 or outside is None:
                return False
            limit = self._core_limit(WIDER * int(keep.sum()))

    def _solve_inside(self, keep: Mask, effort: Effort) -> Answer:
        if not self.problem.columns.covers(keep):
            return Answer(None, None, True)
        hint = None
        if self.chosen is not None and keep[self.chosen].all():
            hint = (np.cumsum(keep) - 1)[self.chosen].astype(np.int64)
        return run_cpsat(self.problem.only(keep), effort, hint, self.lower, self.at_most)

    def _beyond(self, limit: int) -> bool:
        """Whether what is outside a core is of no interest."""
        return self.at_most is not None and limit >= self.at_most

    def _core_limit(self, columns: int) -> int:
        """A sum below which there are about `columns` columns, or the best known one where that is known."""
        if self.value is not None:
            return self.value
        slack = np.sort(self.bound.slack)
        at = int(slack[min(columns, len(slack) - 1)])
        limit = -(-(self.bound.exact + at) // self.bound.scale)
        return limit if self.at_most is None else min(limit, self.at_most)


def _foreseen(seen: list[tuple[int, int]], most: int) -> float:
    """About how many models a sweep up to `most` takes, after those seen: their number grows exponentially, ever less so."""
    if len(seen) < 2:
        return 0.0
    (near, few), (far, many) = seen[-2:]
    growth = math.log(max(many, 1) / max(few, 1)) / max(far - near, 1)
    return many * math.exp(min(DAMPED * growth * (most - far), 50.0))
