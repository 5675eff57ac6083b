"""Irreducible infeasible set by deletion filter (Chinneck & Dravnieks 1991), on an oracle of feasibility with memory.

Drop a statement; if the rest is still infeasible, it stays dropped. A model that was found decides every subset of the
requirements that it meets; a refuted set decides every superset. A new question goes first to the Lagrangian relaxation, which
often proves infeasibility and names the rows it needed, and to a repaired incumbent. The solver decides the rest, by minimising
one row. CP-SAT's assumption literals are no alternative: on such rows they are slow and their cores wrong.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from puzzledsl.ir.logic import holds
from puzzledsl.ir.nodes import LinearRequirement, Requirement, Where
from puzzledsl.ir.tables import Assignment
from puzzledsl.search.effort import Effort
from puzzledsl.search.lagrangian.bound import lagrangian_bound
from puzzledsl.search.local_search import find_incumbent
from puzzledsl.search.portfolio.minimise import minimise
from puzzledsl.search.problem.box import Box
from puzzledsl.search.problem.instance import Problem, Row, presolve
from puzzledsl.search.problem.metrics import Child
from puzzledsl.search.problem.normal_form import Formula
from puzzledsl.search.problem.problem import Change, Problems, formulas_of

Kept = frozenset[int]  # numbers of requirements
Group = tuple[int, ...]  # numbers of the requirements of one `require` statement (several inside a `for`)
PATIENCE = 0.2  # share of the time left for one question, at first


def groups_of(requirements: Sequence[Requirement]) -> list[Group]:
    """Group the requirements by their statement, in source order."""
    groups: dict[Where, list[int]] = {}
    for index, requirement in enumerate(requirements):
        groups.setdefault(requirement.where, []).append(index)
    return [tuple(indices) for indices in groups.values()]


def members_of(groups: Iterable[Group]) -> Kept:
    """Return the requirements of several statements."""
    return frozenset(i for group in groups for i in group)


def minimal_conflict(feasibility: Feasibility) -> tuple[Group, ...]:
    """Return a minimal set of statements that no model meets together; empty if there is none, or if no model fits."""
    groups = groups_of(feasibility.problems.tables.search.requirements)
    every = members_of(groups)
    if feasibility.refuted(frozenset()) is not None or feasibility.can_meet(every):
        return ()

    def whole(blame: Kept) -> Kept:
        return members_of(g for g in groups if blame & set(g))

    kept = whole(feasibility.refuted(every) or every)
    for patience in (PATIENCE, 1.0):  # hard questions are asked again when all others are answered
        feasibility.undecided.clear()
        feasibility.patience = patience
        for group in reversed(groups):
            if kept & set(group) and (blame := feasibility.refuted(kept - set(group))) is not None:
                kept = whole(blame)
    return tuple(g for g in groups if kept & set(g))


@dataclass(slots=True)
class Feasibility:
    """Feasibility of sets of requirements, remembered. `patience`: share of the time left that one question may take."""

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
        return self._is_met(kept) or None

    def refuted(self, kept: Kept) -> Kept | None:
        """Return a subset of `kept` that no model meets, as small as the proof shows; None without a proof of infeasibility."""
        known = [r for r in self._refuted if r <= kept]
        if known:
            return min(known, key=len)
        if kept in self.undecided or self._is_met(kept):
            return None
        blame = self._refuted_everywhere(kept)
        if blame is not None:
            self._refuted.append(blame)
        elif not self._is_met(kept):
            self.undecided.append(kept)
        return blame

    def saw(self, layers: Sequence[Assignment], near: Box) -> Kept:
        """Remember a model at the batches in `near` that it runs at. Return the requirements that it meets there."""
        box, tables = self.problems.box_of(layers, near), self.problems.tables
        if box is None:
            return frozenset()
        child, chosen = Child(tables, tuple(layers), box.lows), dict(enumerate(layers))
        if not all(map(child.fits, tables.scenarios)):
            return frozenset()
        failed = {f.requirement for f in formulas_of(tables) if not holds(f.logic, chosen)}
        numbered = enumerate(tables.search.requirements)
        failed |= {i for i, r in numbered if isinstance(r, LinearRequirement) and not child.meets(r)}
        met = frozenset(range(len(tables.search.requirements))) - failed
        self._met.append(met)
        return met

    def only(self, kept: Kept, then: Change | None = None) -> Problems:
        """Return the problems with the requirements in `kept` alone. `then`: a change before those of the solver."""
        builder = self.problems.builder

        def subset(problem: Problem, box: Box) -> Problem:
            def is_kept(part: Row | Formula) -> bool:
                return part.requirement is None or part.requirement in kept

            smaller = replace(problem, rows=tuple(filter(is_kept, problem.rows)))
            smaller = builder.with_formulas(smaller, tuple(filter(is_kept, problem.formulas)))
            return smaller if then is None else then(smaller, box)

        return replace(self.problems, changes=(subset, *self.problems.changes))

    def _is_met(self, kept: Kept) -> bool:
        return any(kept <= met for met in self._met)

    def _refuted_everywhere(self, kept: Kept) -> Kept | None:
        """Return the subset of `kept` that rules out all models, by depth-first search over boxes; None without a proof."""
        problems, blame, undecided = self.only(kept), Kept(), False
        stack = [*reversed(problems.boxes)]
        while stack:
            if self.effort.left_s <= 0:
                return None
            box = stack.pop()
            part, near = self._blame(problems.at(box), box, kept)
            if part is not None:
                blame |= part
            elif self._is_met(kept):
                return None
            elif box.is_single:
                undecided = True
            else:
                stack += sorted(box.halves(), key=lambda half: near is not None and half.has(near.lows))
        return None if undecided else blame

    def _blame(self, whole: Problem, box: Box, kept: Kept) -> tuple[Kept | None, Box | None]:
        """Return (requirements of a box's problem that no model meets together, None) if it is proven infeasible.

        Else return (None, batches of a relaxed model or None); a model that meets everything asked is remembered. Boxes with
        several batches are tried only with a bound, and with one row as the objective.
        """
        formulas = _named(
            whole.formulas
        )  # always: the bound may depend on columns and states that they exclude
        presolved = presolve(whole, quick=True)
        if presolved is None:
            return formulas, None
        problem, origin, near = presolved.problem, presolved.origin, None
        aims = range(len(problem.rows) - 1, -1, -1) if problem.rows else (None,)
        for place in aims if box.is_single else aims[:1]:
            aim, aimed = _aimed(problem, place)
            bound = lagrangian_bound(aimed)
            if bound.infeasible or bound.value > aim.limit:
                priced = [row for row, price in zip(aimed.rows, bound.prices, strict=True) if price]
                return formulas | _named(priced if bound.infeasible else [*priced, aim]), None
            incumbent = find_incumbent(aimed, bound)
            if incumbent is None or aimed.goal.of(incumbent) > aim.limit:
                continue
            layers = whole.choice(origin[incumbent])
            near = self.problems.box_of(layers, box)
            if kept <= self.saw(layers, box):
                return None, near
        if not box.is_single:
            return None, near
        aim, aimed = _aimed(problem, aims[0])
        effort = replace(self.effort.share(self.patience), labels=0)
        outcome = minimise(aimed, effort, canonical=False, at_most=aim.limit)
        if outcome.chosen is not None:
            self.saw(whole.choice(origin[outcome.chosen]), box)
            return None, None
        return (formulas | _named(problem.rows) if outcome.proven else None), None


def _named(parts: Iterable[Row | Formula]) -> Kept:
    """Return the requirements that rows or formulas belong to."""
    return frozenset(part.requirement for part in parts if part.requirement is not None)


def _aimed(problem: Problem, place: int | None) -> tuple[Row, Problem]:
    """Return row `place` and the problem that minimises its use in place of limiting it; without a row, a zero objective."""
    aim = Row("", np.zeros_like(problem.goal.values), 0) if place is None else problem.rows[place]
    goal = replace(problem.goal, values=aim.coefficients, exact=True, tokens=None)
    rows = tuple(row for i, row in enumerate(problem.rows) if i != place)
    return aim, replace(problem, goal=goal, rows=rows, preferences=())
