"""Why a search has no answer: a smallest set of requirements that conflict, and how far each could go.

A deletion filter: drop a requirement; if the rest still has no answer it stays dropped. (Assumption literals on such rows
are slow and their cores wrong.) See feasible.py for how each question is answered.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Literal

import numpy as np

from puzzledsl.ir.nodes import LinearRequirement, Requirement, Where
from puzzledsl.ir.tables import ConflictItem
from puzzledsl.search.core import Outcome, minimise
from puzzledsl.search.cpsat import Effort
from puzzledsl.search.feasible import Feasibility, Kept, subset_of
from puzzledsl.search.instance import Goal, Mask, Problem
from puzzledsl.search.problem import Builder
from puzzledsl.search.reachable import Written, in_users_unit
from puzzledsl.search.rows import bound_of, goal_of, requirement_rows

Group = tuple[int, ...]  # requirements written by one `require` (several inside a `for`)
Sense = Literal["minimize", "maximize"]
SENSES: dict[str, tuple[Sense, ...]] = {
    "<=": ("minimize",),
    "<": ("minimize",),
    ">=": ("maximize",),
    ">": ("maximize",),
    "==": ("minimize", "maximize"),
}
PARENTS_OWN = {"parent_ratio": Fraction(1)}
GAP = 1e-4  # of a reachable value: less than the digits that are shown
WORK = 0.02  # CP-SAT's deterministic seconds for a reachable value, and again for settling its last digit
MODELS = 0  # CP-SAT is asked at once: the bound leaves most columns where things are counted, and sweeps are slow then


@dataclass(frozen=True, slots=True)
class Conflict:
    """A conflict, in source order. `minimal`: without any one of its requirements the others were shown to be met."""

    groups: tuple[Group, ...]
    items: tuple[ConflictItem, ...]
    minimal: bool


def explain(builder: Builder, problems: Sequence[Problem], effort: Effort) -> Conflict:
    """A minimal conflict of an infeasible search. Empty where the space itself has no model that fits."""
    requirements = builder.tables.search.requirements
    feasibility = Feasibility(builder.tables, problems, effort)
    every = frozenset(range(len(requirements)))
    groups = groups_of(requirements)
    kept = conflict_within(feasibility, groups)
    members = tuple(g for g in groups if kept & set(g))
    items = tuple(
        _item(builder, feasibility, group, kept - set(group), every - set(group)) for group in members
    )
    return Conflict(members, items, all(feasibility.can_meet(kept - set(g)) for g in members))


def groups_of(requirements: Sequence[Requirement]) -> list[Group]:
    """Requirements by the statement that wrote them, in order."""
    groups: dict[Where, list[int]] = {}
    for index, requirement in enumerate(requirements):
        groups.setdefault(requirement.where, []).append(index)
    return [tuple(indices) for indices in groups.values()]


def conflict_within(feasibility: Feasibility, groups: Sequence[Group]) -> Kept:
    """A smallest set of whole groups that no model meets; nothing where some model meets all of them, or where the space
    alone has no model that fits. All of them where time ran out."""

    def whole(blame: Kept) -> Kept:
        return frozenset(i for g in groups if blame & set(g) for i in g)

    every = frozenset(i for g in groups for i in g)
    if feasibility.refuted(frozenset()) is not None:
        return frozenset()
    if feasibility.can_meet(every):
        return frozenset()
    kept = whole(feasibility.refuted(every) or every)
    for group in reversed(groups):
        if not kept & set(group):
            continue
        blame = feasibility.refuted(kept - set(group))
        if blame is not None:
            kept = whole(blame)
    return kept


@dataclass(frozen=True, slots=True)
class Reach:
    """How far a requirement's left side can go: its value, and the parent's at the same batch.

    `proven`: no further, to the last digit shown.
    """

    value: Fraction
    parent: Fraction
    proven: bool


def reach(
    builder: Builder, feasibility: Feasibility, requirement: LinearRequirement, kept: Kept
) -> Reach | None:
    """The value nearest to a requirement's bound that its left side reaches with the requirements in `kept` met, if any."""
    best: tuple[Fraction, Reach] | None = None
    for problem in feasibility.problems:
        parent = bound_of(builder, requirement.model_copy(update=PARENTS_OWN), problem.batches)
        bound = bound_of(builder, requirement, problem.batches)
        for value, proven in _nearest(
            builder, feasibility, requirement, subset_of(problem, kept), problem, parent
        ):
            short = abs(value - bound)
            rank = short / abs(parent) if requirement.parent_ratio is not None and parent else short
            if best is None or rank < best[0]:
                best = (rank, Reach(value, parent, proven))
    return None if best is None else best[1]


def _nearest(
    builder: Builder,
    feasibility: Feasibility,
    requirement: LinearRequirement,
    problem: Problem,
    whole: Problem,
    parent: Fraction,
) -> Iterator[tuple[Fraction, bool]]:
    """The best value (and whether that is proven) at one combination of batches; of an equation the nearest on each side."""
    senses = SENSES[requirement.op]
    own = _own_columns(builder, problem)
    for sense in senses:
        goal = goal_of(builder, requirement.left, sense, problem.batches).only(own)
        aimed = replace(problem, goal=goal, preferences=())
        if len(senses) > 1:  # stay on one side of an equation's bound
            side = requirement.model_copy(update={"op": ">=" if sense == "minimize" else "<="})
            rows = requirement_rows(builder, 0, side, problem.batches)
            aimed = aimed.with_rows(*(replace(row, coefficients=row.coefficients[own]) for row in rows))
        found = _reached(feasibility, requirement, aimed, goal, parent, whole)
        if found is not None:
            yield found


def _reached(
    feasibility: Feasibility,
    requirement: LinearRequirement,
    aimed: Problem,
    goal: Goal,
    parent: Fraction,
    whole: Problem,
) -> tuple[Fraction, bool] | None:
    """The best value of a goal, to the digits that are shown, and whether that is proven."""
    effort = replace(feasibility.effort, gap=GAP, work=WORK, models=MODELS)
    outcome = minimise(aimed, effort, canonical=False)
    if outcome.chosen is None or outcome.value is None:
        return None
    if outcome.proven and not _is_settled(requirement, goal, outcome, parent):
        settled = minimise(aimed, replace(effort, gap=0.0), canonical=False)
        if settled.value is not None and settled.value < outcome.value:
            outcome = settled
    assert outcome.chosen is not None and outcome.value is not None
    feasibility.saw(whole, outcome.chosen)
    value = goal.in_units(outcome.value)
    return None if value is None else (value, _is_settled(requirement, goal, outcome, parent))


def _is_settled(requirement: LinearRequirement, goal: Goal, outcome: Outcome, parent: Fraction) -> bool:
    """Whether what is proven to be out of reach reads the same as what was reached."""

    def shown(total: int | None) -> Written | None:
        value = None if total is None else goal.in_units(total)
        return None if value is None else in_users_unit(requirement, value, parent)

    return shown(outcome.value) == shown(outcome.bound)


def _own_columns(builder: Builder, problem: Problem) -> Mask:
    """Which of all columns a (restricted) problem has."""
    own = np.zeros(len(builder.columns), dtype=np.bool_)
    own[builder.columns.start[problem.columns.layer_of] + problem.columns.place] = True
    return own


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
