"""Irreducible infeasible set by deletion filter (Chinneck & Dravnieks 1991), and the best reachable value of each requirement.

Drop a requirement; if the rest is still infeasible, it stays dropped. CP-SAT's
assumption literals are no alternative: on such rows they are slow and their cores wrong. `feasible.py` answers each question.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Literal

import numpy as np

from puzzledsl.ir.nodes import LinearRequirement, Requirement, ScoreTerm, TableTerm, Where
from puzzledsl.ir.tables import ConflictItem
from puzzledsl.search.batches.exact import best_of
from puzzledsl.search.batches.waiting import Floors
from puzzledsl.search.effort import Effort
from puzzledsl.search.infeasible.feasible import Feasibility, Kept
from puzzledsl.search.infeasible.reachable import in_users_unit
from puzzledsl.search.problem.box import Box
from puzzledsl.search.problem.columns import Mask
from puzzledsl.search.problem.instance import Goal, Problem
from puzzledsl.search.problem.metrics import Child
from puzzledsl.search.problem.problem import Builder, Problems
from puzzledsl.search.problem.rows import bound_of, bounds_of, goal_of, requirement_rows

Group = tuple[int, ...]  # numbers of the requirements of one `require` statement (several inside a `for`)
Sense = Literal["minimize", "maximize"]
SENSES: dict[str, tuple[Sense, ...]] = {
    "<=": ("minimize",),
    "<": ("minimize",),
    ">=": ("maximize",),
    ">": ("maximize",),
    "==": ("minimize", "maximize"),
}
PARENTS_OWN = {"parent_ratio": Fraction(1)}
GAP = 1e-4  # relative gap of a reachable value, below the digits shown
WORK = 0.02  # CP-SAT's deterministic seconds for a reachable value, and again for its last digit
PATIENCE = 0.2  # share of the time left for one question, at first
LABELS = 0  # no label setting: with counting requirements the bound removes few columns, and sweeps are slow


@dataclass(frozen=True, slots=True)
class Conflict:
    """Conflicting requirements in source order. `minimal`: without any one group, the others are proven to be satisfiable."""

    groups: tuple[Group, ...]
    items: tuple[ConflictItem, ...]
    minimal: bool


def explain(builder: Builder, problems: Problems, effort: Effort) -> Conflict:
    """Return a minimal conflict of an infeasible search; empty if the space itself has no model that fits."""
    requirements = builder.tables.search.requirements
    feasibility = Feasibility(builder.tables, problems, effort)
    every = frozenset(range(len(requirements)))
    groups = groups_of(requirements)
    kept = conflict_within(feasibility, groups)
    members = tuple(g for g in groups if kept & set(g))
    items = []
    for number, group in enumerate(members):
        own = replace(feasibility, effort=effort.share(1 / (len(members) - number + 1)))
        items.append(_item(builder, own, group, kept - set(group), every - set(group)))
    return Conflict(members, tuple(items), all(feasibility.can_meet(kept - set(g)) for g in members))


def groups_of(requirements: Sequence[Requirement]) -> list[Group]:
    """Group the requirements by their statement, in source order."""
    groups: dict[Where, list[int]] = {}
    for index, requirement in enumerate(requirements):
        groups.setdefault(requirement.where, []).append(index)
    return [tuple(indices) for indices in groups.values()]


def conflict_within(feasibility: Feasibility, groups: Sequence[Group]) -> Kept:
    """Return a minimal set of whole groups that no model meets.

    Empty if some model meets all groups, or if the space alone has no model that fits. If time runs out, it may not be minimal.
    """

    def whole(blame: Kept) -> Kept:
        return frozenset(i for g in groups if blame & set(g) for i in g)

    every = frozenset(i for g in groups for i in g)
    if feasibility.refuted(frozenset()) is not None:
        return frozenset()
    if feasibility.can_meet(every):
        return frozenset()
    kept = whole(feasibility.refuted(every) or every)
    for patience in (PATIENCE, 1.0):  # hard questions are asked again when all others are answered
        feasibility.undecided.clear()
        feasibility.patience = patience
        for group in reversed(groups):
            if kept & set(group) and (blame := feasibility.refuted(kept - set(group))) is not None:
                kept = whole(blame)
    return kept


@dataclass(frozen=True, slots=True)
class Reach:
    """Best reachable value of a requirement's left side, with the parent's value at the same batch.

    `proven`: no better value reads differently in the digits shown.
    """

    value: Fraction
    parent: Fraction
    proven: bool


def reach(
    builder: Builder, feasibility: Feasibility, requirement: LinearRequirement, kept: Kept
) -> Reach | None:
    """Return the value nearest to a requirement's bound that its left side reaches when the requirements in `kept` are met.

    None if no model is found.
    """
    found = [
        reached
        for sense in SENSES[requirement.op]
        if (reached := _nearest(builder, feasibility, requirement, kept, sense)) is not None
    ]

    def short(reached: Reach) -> Fraction:
        at = (
            requirement.parent_ratio * reached.parent
            if requirement.parent_ratio is not None
            else requirement.bound
        )
        assert at is not None
        return abs(reached.value - at)

    return min(found, key=short, default=None)


def _nearest(
    builder: Builder, feasibility: Feasibility, requirement: LinearRequirement, kept: Kept, sense: Sense
) -> Reach | None:
    """Return the best value in one sense over all batches; for an equation, the nearest value on one side of its bound."""
    parents = requirement.model_copy(update=PARENTS_OWN)
    divided = _is_divided(requirement, feasibility.problems)

    def aimed(problem: Problem, box: Box) -> Problem:
        problem, own = feasibility.subset(problem, kept), _own_columns(builder, problem)
        goal = goal_of(builder, requirement.left, sense, box).only(own)
        if divided:
            goal = _over_the_parent(goal, bounds_of(builder, parents, box), sense)
        problem = replace(problem, goal=goal, preferences=())
        if requirement.op != "==":
            return problem
        side = requirement.model_copy(update={"op": ">=" if sense == "minimize" else "<="})
        rows = requirement_rows(builder, 0, side, box)  # stay on one side of an equation's bound
        return problem.with_rows(*(replace(row, coefficients=row.coefficients[own]) for row in rows))

    return _best_reach(feasibility, requirement, feasibility.problems.changed(aimed), divided)


def _is_divided(requirement: LinearRequirement, problems: Problems) -> bool:
    """True if values are optimised as ratios to the parent's value at the same batch.

    The requirement must be relative to the parent. Over boxes with several batches, its left side must also be non-negative, so
    that bounds on it and on the parent's value give a bound on the ratio.
    """
    if requirement.parent_ratio is None:
        return False
    amounts = all(
        w.coefficient >= 0 and not isinstance(w.term, ScoreTerm | TableTerm) for w in requirement.left.terms
    )
    return (amounts and requirement.left.constant >= 0) or all(box.is_single for box in problems.boxes)


def _over_the_parent(goal: Goal, parents: tuple[Fraction, Fraction], sense: Sense) -> Goal:
    """Divide an objective by the parent's value; of its (least, most) in a box, by the one that keeps the bound valid."""
    parent = abs(parents[0] if sense == "maximize" else parents[1]) or Fraction(1)
    if goal.tokens is None:
        return replace(goal, unit=goal.unit / parent, constant=goal.constant / parent)
    tokens = goal.tokens
    scaled = replace(tokens, factor=tokens.factor / parent, constant=tokens.constant / parent)
    return replace(goal, tokens=scaled)


def _best_reach(
    feasibility: Feasibility, requirement: LinearRequirement, problems: Problems, divided: bool
) -> Reach | None:
    """Return the best value of the problems' objective.

    It is solved with little work, at first up to a gap, and in all the time only if that does not settle the digits shown.
    """
    builder, floors = problems.builder, Floors()
    parents = requirement.model_copy(update=PARENTS_OWN)
    whole, reached = feasibility.effort, None
    little = replace(whole, work=WORK, labels=LABELS)
    for effort in (replace(little, gap=GAP), replace(little, gap=0.0), replace(whole, gap=0.0)):
        if whole.left_s <= 0:
            break
        found = best_of(problems, effort, floors, canonical=False)
        if found.layers is None:
            continue
        feasibility.saw(found.layers, Box.at(found.batches))
        value = Child(problems.tables, found.layers, found.batches).linear(requirement.left)
        parent = bound_of(builder, parents, found.batches)
        bound = found.bound if found.bound is None or not divided else found.bound * (abs(parent) or 1)
        reached = Reach(value, parent, _reads_the_same(requirement, value, bound, parent))
        if reached.proven:
            break
    return reached


def _reads_the_same(
    requirement: LinearRequirement, value: Fraction, bound: Fraction | None, parent: Fraction
) -> bool:
    """True if the proven bound and the reached value are equal in the unit and digits shown to the user."""
    if bound is None:
        return False
    return in_users_unit(requirement, value, parent) == in_users_unit(requirement, bound, parent)


def _own_columns(builder: Builder, problem: Problem) -> Mask:
    """Return the mask, over all of the builder's columns, of those in a (restricted) problem."""
    every, own = builder.columns, problem.columns
    places = int(every.place.max()) + 1
    known, wanted = ((c.position * places + c.place) * c.layers + c.layer_of for c in (every, own))
    return np.asarray(np.isin(known, wanted), dtype=np.bool_)


def _item(builder: Builder, feasibility: Feasibility, group: Group, others: Kept, rest: Kept) -> ConflictItem:
    requirement = builder.tables.search.requirements[group[0]]
    text, proven = "", True
    if isinstance(requirement, LinearRequirement) and len(group) == 1:
        reached = reach(builder, feasibility, requirement, others)
        written = None if reached is None else in_users_unit(requirement, reached.value, reached.parent)
        text, proven = "" if written is None else written.text, reached is None or reached.proven
    return ConflictItem(
        line=requirement.where.line,
        text=requirement.where.text,
        because=requirement.because,
        reachable=text,
        proven=proven,
        frees=feasibility.can_meet(rest),
    )
