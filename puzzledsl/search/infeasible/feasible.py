"""Feasibility of sets of requirements, with memory.

A model that was found decides every subset of the requirements that it meets; a refuted set decides every superset. A new
question goes first to the Lagrangian relaxation, which often proves infeasibility and names the rows it needed. A repaired
incumbent often proves feasibility. The solver decides the rest, by minimising one row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from puzzledsl.ir.logic import holds
from puzzledsl.ir.nodes import LinearRequirement
from puzzledsl.ir.tables import LayerAssignment
from puzzledsl.search.effort import Effort
from puzzledsl.search.lagrangian.bound import Bound, lagrangian_bound
from puzzledsl.search.local_search.incumbent import find_incumbent
from puzzledsl.search.portfolio.minimise import minimise
from puzzledsl.search.problem.box import Box
from puzzledsl.search.problem.columns import Ints
from puzzledsl.search.problem.instance import Problem, Row, presolve
from puzzledsl.search.problem.metrics import Child
from puzzledsl.search.problem.problem import Problems
from puzzledsl.search.tables import Tables

Kept = frozenset[int]  # numbers of requirements
AIMS = 1  # rows tried as the objective for a box with several batches


def subset_of(problem: Problem, kept: Kept) -> Problem:
    """Return the problem with only the requirements in `kept`, and the constraints that belong to no requirement (memory)."""
    formulas = tuple(f for f in problem.formulas if f.requirement is None or f.requirement in kept)
    return replace(
        problem,
        rows=tuple(r for r in problem.rows if r.requirement is None or r.requirement in kept),
        formulas=formulas,
        diagram=problem.diagram if len(formulas) == len(problem.formulas) else None,
        is_large=False,
    )


@dataclass(slots=True)
class Feasibility:
    """Feasibility of sets of requirements of one search, with memory.

    `undecided`: sets for which time ran out. `patience`: share of the time left that one question to the solver may take.
    """

    tables: Tables
    problems: Problems
    effort: Effort
    patience: float = 1.0
    undecided: list[Kept] = field(default_factory=list)
    _met: list[Kept] = field(default_factory=list)
    _refuted: list[Kept] = field(default_factory=list)

    def can_meet(self, kept: Kept) -> bool | None:
        """Return True if some model meets the requirements in `kept` at some batch, False if none does, None if undecided."""
        if self.refuted(kept) is not None:
            return False
        return True if any(kept <= met for met in self._met) else None

    def refuted(self, kept: Kept) -> Kept | None:
        """Return a subset of `kept` that no model meets, as small as the proof shows; None without a proof of infeasibility."""
        known = [r for r in self._refuted if r <= kept]
        if known:
            return min(known, key=len)
        if kept in self.undecided or any(kept <= met for met in self._met):
            return None
        blame = self._refuted_everywhere(kept)
        if blame is not None:
            self._refuted.append(blame)
        elif not any(kept <= met for met in self._met):
            self.undecided.append(kept)
        return blame

    def _refuted_everywhere(self, kept: Kept) -> Kept | None:
        """Return the subset of `kept` that rules out all models at all batches; None if there is a model or time runs out.

        Depth-first search over boxes of batches: a box with an infeasible relaxation is closed; else it is split, and the half
        that contains the batches of the relaxation's model is searched first.
        """
        blame: Kept = frozenset()
        stack = [*reversed(self.problems.boxes)]
        undecided = False
        while stack:
            if self.effort.left_s <= 0:
                return None
            box = stack.pop()
            whole = self.problems.at(box)
            part, near = self._blame(self.subset(whole, kept), whole, box)
            if part is not None:
                blame |= part
            elif any(kept <= met for met in self._met):
                return None
            elif box.is_single:
                undecided = True
            else:
                stack += sorted(box.halves(), key=lambda half: near is not None and half.has(near.lows))
        return None if undecided else blame

    def subset(self, whole: Problem, kept: Kept) -> Problem:
        """Return the problem with only these requirements, and their decision diagram if the builder has it for these columns."""
        problem, builder = subset_of(whole, kept), self.problems.builder
        if problem.columns is not builder.columns:
            return replace(problem, diagram=None, is_large=False)
        diagram = builder.diagram(problem.formulas)
        return replace(problem, diagram=diagram, is_large=bool(problem.formulas) and diagram is None)

    def saw(self, layers: Sequence[LayerAssignment], box: Box) -> Kept:
        """Remember a model at the batches in `box` that it runs at. Return the requirements that it meets there."""
        runs_at = self.problems.box_of(layers, box)
        if runs_at is None:
            return frozenset()
        problem = self.problems.at(runs_at)
        chosen = problem.indices(layers)
        met = None if chosen is None else _met(self.tables, problem, chosen)
        if met is None:
            return frozenset()
        self._met.append(met)
        return met

    def _blame(self, problem: Problem, whole: Problem, box: Box) -> tuple[Kept | None, Box | None]:
        """Return (requirements of a box's problem that no model meets together, None) if it is proven infeasible.

        Else return (None, batches of a relaxed model or None); a model that meets everything asked is remembered. Boxes with
        several batches are tried only with a bound.
        """
        # The bound may depend on columns and states that formulas exclude, so formulas are always part of the blame.
        formulas = frozenset(f.requirement for f in problem.formulas if f.requirement is not None)
        presolved = presolve(problem, quick=True)
        if presolved is None:
            return formulas, None
        problem, origin = presolved.problem, presolved.origin
        aims = range(len(problem.rows) - 1, -1, -1) if problem.rows else (None,)
        near = None
        for place in aims if box.is_single else aims[:AIMS]:
            aim, aimed = _aimed(problem, place)
            bound = lagrangian_bound(aimed)
            if bound.infeasible or bound.value > aim.limit:
                return formulas | _priced(aimed, bound, aim), None
            incumbent = find_incumbent(aimed, bound)
            if incumbent is None or aimed.goal.of(incumbent) > aim.limit:
                continue
            layers = whole.choice(origin[incumbent])
            near = self.problems.box_of(layers, box)
            if self._shown(layers, box, problem):
                return None, near
        if not box.is_single:
            return None, near
        aim, aimed = _aimed(problem, len(problem.rows) - 1 if problem.rows else None)
        return self._decide(problem, whole, aimed, aim, origin, box), None

    def _decide(
        self, problem: Problem, whole: Problem, aimed: Problem, aim: Row, origin: Ints, box: Box
    ) -> Kept | None:
        """Decide a single box by minimising the row `aim`, among models that meet it.

        Return the requirements of the problem if no model meets them; None if one does (it is remembered) or without a proof.
        """
        every = frozenset(
            place
            for part in (problem.rows, problem.formulas)
            for r in part
            if (place := r.requirement) is not None
        )
        effort = replace(self.effort.share(self.patience), labels=0)
        outcome = minimise(aimed, effort, canonical=False, at_most=aim.limit)
        if outcome.chosen is not None:
            self._shown(whole.choice(origin[outcome.chosen]), box, problem)
            return None
        return every if outcome.proven else None

    def _shown(self, layers: Sequence[LayerAssignment], box: Box, asked: Problem) -> bool:
        """Remember a model. Return True if it meets exactly every requirement of the problem `asked`."""
        wanted = {r.requirement for part in (asked.rows, asked.formulas) for r in part}
        return {r for r in wanted if r is not None} <= self.saw(layers, box)


def _priced(problem: Problem, bound: Bound, aim: Row) -> Kept:
    """Return the requirements that the bound used: the rows with a price, and the aim unless the bound is infeasible."""
    priced = {r.requirement for r, price in zip(problem.rows, bound.prices, strict=True) if price}
    if not bound.infeasible:
        priced.add(aim.requirement)
    return frozenset(r for r in priced if r is not None)


def _aimed(problem: Problem, place: int | None) -> tuple[Row, Problem]:
    """Return row `place` and the problem that minimises its use in place of limiting it; without a row, a zero objective."""
    aim = Row("", np.zeros_like(problem.goal.values), 0) if place is None else problem.rows[place]
    goal = replace(problem.goal, values=aim.coefficients, exact=True, tokens=None)
    rows = tuple(row for i, row in enumerate(problem.rows) if i != place)
    return aim, replace(problem, goal=goal, rows=rows, preferences=())


def _met(tables: Tables, problem: Problem, chosen: Ints) -> Kept | None:
    """Return the requirements that a model meets exactly; None if it does not fit into memory at its batch."""
    use = problem.matrix[:, chosen].sum(axis=1)
    failed = {r.requirement for r, u in zip(problem.rows, use.tolist(), strict=True) if u > r.limit}
    layers = dict(enumerate(problem.choice(chosen)))
    failed |= {f.requirement for f in problem.formulas if not holds(f.logic, layers)}
    if None in failed:
        return None
    met = frozenset(range(len(tables.search.requirements))) - failed
    if all(row.exact for row in problem.rows):
        return met
    child = Child(tables, problem.choice(chosen), problem.batches)
    if not all(child.fits(name) for name in tables.scenarios):
        return None
    inexact = {r.requirement for r in problem.rows if not r.exact}
    requirements = tables.search.requirements
    return frozenset(
        i
        for i in met
        if i not in inexact or not isinstance(r := requirements[i], LinearRequirement) or child.meets(r)
    )
