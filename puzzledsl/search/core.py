"""Minimise a problem: bound it, keep the columns that can be in a good answer, search them, prove that the rest cannot matter.

A portfolio: label setting, branch and bound on the decision diagram, and CP-SAT take turns in slices of deterministic work
(labels counted, CP-SAT's own measure), share the incumbent and the bound, and the first proof ends it.

The answer is canonical: of all best answers, the one whose columns come first in the order of the space (layer 0 decides first).
So it depends on no seed and no number of workers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from puzzledsl.search.bound import Bound, lagrangian_bound
from puzzledsl.search.branching import Branching
from puzzledsl.search.cores import Cores, slice_of
from puzzledsl.search.cpsat import Effort
from puzzledsl.search.gaps import good_enough
from puzzledsl.search.incumbent import find_incumbent
from puzzledsl.search.instance import Ints, Problem
from puzzledsl.search.label_setting import LabelSetting, kept
from puzzledsl.search.layered import sweep_of
from puzzledsl.search.ledger import Ledger, Outcome
from puzzledsl.search.paths import paths_of
from puzzledsl.search.polish import TOGETHER, polished, walked
from puzzledsl.search.presolve import Presolved, is_unfinished, presolve
from puzzledsl.search.symmetry import symmetry_of

__all__ = ["Outcome", "minimise"]

MANY = 20_000  # columns, from which on an answer within a gap is sought harder; with fewer, exchanges of two find it sooner
BEAM = 100  # labels a layer that a first look for an answer follows
BEAM_REACH = 0.3  # of the gap, where it looks
WORK = 5.0  # CP-SAT's deterministic seconds for alike layers, before their labels are set


@dataclass(frozen=True, slots=True)
class Turns:
    """The first turns of each engine; each round they are `GROWTH` times as long."""

    labels: int
    branching: int
    cpsat: float


FREE = Turns(labels=10_000_000, branching=0, cpsat=2.0)  # knapsacks alone: labels nearly always do
TIED = Turns(labels=300_000, branching=200_000, cpsat=0.3)  # with a decision diagram
GROWTH = 3
LEAST_TIED = 50_000  # labels that are worth setting with a decision diagram, however few were asked for
EARLY = 0.2  # CP-SAT's deterministic seconds before a large diagram is made
NONE = Outcome(None, None, None, True, proved_by="presolve")


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
    presolved = presolve(problem, quick=True, deadline=effort.deadline)
    if presolved is None:
        return NONE
    known = Outcome(None, None, at_least, False)
    if problem.formulas and is_unfinished(presolved.problem.diagram):
        short = replace(slice_of(effort, EARLY), models=0)
        known = _minimise(presolved, short, canonical, known, None, at_most)
        if known.proven or effort.left_s <= 0 or (effort.work is not None and effort.work <= EARLY):
            return known
        presolved = presolve(problem, deadline=effort.deadline)
        if presolved is None:
            return NONE
    if presolved.problem is not problem:
        bound = None
    return _minimise(presolved, effort, canonical, known, bound, at_most)


def _minimise(
    presolved: Presolved,
    effort: Effort,
    canonical: bool,
    known: Outcome,
    bound: Bound | None,
    at_most: int | None,
) -> Outcome:
    """`minimise` on a presolved problem, from an answer and a bound that are known."""
    problem, origin = presolved.problem, presolved.origin
    if bound is None:
        bound = lagrangian_bound(problem)
    if bound.infeasible:
        return replace(NONE, proved_by="Lagrangian bound")
    floor = bound.value if known.bound is None else max(known.bound, bound.value)
    ledger = Ledger(problem, bound, effort, floor, at_most)
    if known.chosen is not None and known.value is not None:
        ledger.better(np.searchsorted(origin, known.chosen), known.value, known.found_by)
    found = _Portfolio(ledger, canonical).run()
    return found if found.chosen is None else replace(found, chosen=origin[found.chosen])


class _Portfolio:
    """The engines that search one problem."""

    def __init__(self, ledger: Ledger, canonical: bool) -> None:
        self.ledger, self.canonical = ledger, canonical
        self.problem, self.bound, self.effort = ledger.problem, ledger.bound, ledger.effort
        self.hasty = bool(self.effort.gap) and ledger.at_most is None and len(self.problem.columns) >= MANY

    def run(self) -> Outcome:
        """A first answer, then the engines in turn."""
        ledger, effort = self.ledger, self.effort
        if ledger.lower > ledger.top:  # no answer counts
            return ledger.outcome(True)
        self._first_answer()
        if effort.gap and self._polished_enough():
            return ledger.outcome(True)
        if effort.gap and self._counts_settle():
            return ledger.outcome(True)
        return self._in_turn()

    def _counts_settle(self) -> bool:
        """True where CP-SAT proves it over alike layers: their counts are few, their labels are many."""
        alike = symmetry_of(self.problem) is not None
        return alike and Cores(self.ledger, False).run(slice_of(self.effort, WORK))

    def _in_turn(self) -> Outcome:
        ledger, effort = self.ledger, self.effort
        labels, cores = LabelSetting(ledger), Cores(ledger, self.canonical)
        structured = paths_of(self.problem) is not None
        turns = TIED if structured else FREE
        left = max(effort.models, LEAST_TIED if structured else 0)
        left = left if self.problem.goal.values.any() else 0  # a constant goal prunes no label
        branching = Branching(ledger) if structured and left else None
        work = 0.0
        while True:
            if left > 0 and labels.run(min(left, turns.labels)):
                return ledger.outcome(True)
            left -= turns.labels
            if branching is not None and branching.run(turns.branching):
                return ledger.outcome(True)
            close = ledger.close_enough() and (bool(effort.gap) or not self.canonical)
            if close or effort.left_s <= 0:
                return ledger.outcome(ledger.close_enough())
            over = (left <= 0 or not labels.usable) and (branching is None or not branching.usable)
            allowed = effort if over else slice_of(effort, turns.cpsat)
            if effort.work is not None:
                allowed = replace(allowed, work=min(allowed.work or effort.work, effort.work - work))
            if cores.run(allowed):
                return ledger.outcome(True)
            work += allowed.work or 0.0
            if over or effort.left_s <= 0 or (effort.work is not None and work >= effort.work):
                return ledger.outcome(ledger.close_enough())
            turns = Turns(turns.labels * GROWTH, turns.branching * GROWTH, turns.cpsat * GROWTH)

    # -------------------------------------------------------- first answers

    def _first_answer(self) -> None:
        """Any answer: of a narrow sweep where a gap will do and columns are many, or where there is a diagram; else repaired from
        the cheapest columns."""
        ledger = self.ledger
        if self.hasty:
            bound = self.bound.value
            reach = good_enough(self.problem.goal, bound, ledger.top, self.effort.gap) - bound
            self._beam(bound + int(reach * BEAM_REACH))
        elif paths_of(self.problem) is not None:
            self._beam(ledger.top)
        if ledger.value is None and ledger.at_most is None:
            found = find_incumbent(self.problem, self.bound)
            if found is not None:
                ledger.better(found, self.problem.goal.of(found), "repair")

    def _beam(self, most: int) -> None:
        """A narrow sweep: good answers, and no proof."""
        ledger = self.ledger
        keep = self.bound.within(most)
        problem, deadline = self.problem.only(keep), self.effort.deadline
        known = ledger.top + 1 if ledger.value is None else ledger.value
        sweep = sweep_of(problem, self.bound, most, known=known, width=BEAM, deadline=deadline)
        if sweep is not None:
            kept(ledger, sweep.run(), keep.nonzero()[0], "beam search")

    def _polished_enough(self) -> bool:
        """True where the answer known, or one near it, is within the gap that was asked for."""
        for chosen in self._polished():
            self.ledger.better(chosen, self.problem.goal.of(chosen), "local search")
            if self.ledger.close_enough() or self.effort.left_s <= 0:
                break
        return self.ledger.close_enough()

    def _polished(self) -> Iterator[Ints]:
        """Better answers near the one known."""
        chosen = self.ledger.chosen
        if chosen is not None and not self.ledger.close_enough():
            together = 1 if self.hasty else TOGETHER
            yield from polished(self.problem, self.bound, chosen, together)
            if self.hasty and self.ledger.chosen is not None:
                yield from walked(self.problem, self.bound, self.ledger.chosen)
