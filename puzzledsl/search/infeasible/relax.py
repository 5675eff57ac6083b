"""Smallest relaxation of an infeasible search: one bound of each conflict moves as far as necessary.

The relaxed search is solved to verify it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from puzzledsl.ir.nodes import And, LinearRequirement, LogicRequirement, Requirement, Search
from puzzledsl.ir.tables import Change, Relaxation
from puzzledsl.search.answer import checked
from puzzledsl.search.batches.exact import best_meeting_all
from puzzledsl.search.effort import Effort
from puzzledsl.search.infeasible.explain import Conflict, Group, conflict_within, groups_of, reach
from puzzledsl.search.infeasible.feasible import Feasibility
from puzzledsl.search.infeasible.reachable import Written, in_users_unit
from puzzledsl.search.problem.problem import Builder

GAP = 1e-3  # a relaxed search is solved only to show that it has a solution


@dataclass(frozen=True, slots=True)
class _Step:
    """A relaxation of one statement. `size`: relative move of its bound, 1 if it is dropped (`written` is None)."""

    group: Group
    size: Fraction
    written: Written | None


def smallest_relaxation(builder: Builder, conflict: Conflict, effort: Effort) -> Relaxation | None:
    """Return a relaxation with a verified solution; None if there is none (no model of the space fits) or time runs out.

    A single bound is preferred to several, a smaller move to a larger one, and a move to dropping a requirement.
    """
    if not conflict.groups:
        return None
    steps = _single_steps(builder, conflict, effort)
    dropped = [_Step(step.group, Fraction(1), None) for step in steps if step.written is not None]
    for step in (*steps, *dropped):  # an equation may have no exact literal, and must be dropped
        if effort.left_s <= 0:
            return None
        shown = _solved(builder, [step], effort)
        if shown is not None:
            return shown
    return _in_turn(builder, conflict, effort)


def _single_steps(builder: Builder, conflict: Conflict, effort: Effort) -> list[_Step]:
    """Return, smallest first, the necessary move of each statement whose removal alone makes the search feasible."""
    every = frozenset(range(len(builder.tables.search.requirements)))
    feasibility = Feasibility(builder.tables, builder.all(), effort)
    steps = [
        _step(builder, feasibility, group, every - set(group))
        for group, item in zip(conflict.groups, conflict.items, strict=True)
        if item.frees
    ]
    return sorted(steps, key=lambda s: (s.size, s.group))


def _in_turn(builder: Builder, conflict: Conflict, effort: Effort) -> Relaxation | None:
    """Resolve one conflict after another, each by its smallest step, until the search is feasible."""
    steps: dict[Group, _Step] = {}
    groups = conflict.groups
    for _ in range(2 * len(groups_of(builder.tables.search.requirements)) + 1):
        if effort.left_s <= 0:
            return None
        here = builder.for_search(_relaxed(builder.tables.search, steps.values()))
        feasibility = Feasibility(here.tables, here.all(), effort)
        if steps:
            open_groups = groups_of(here.tables.search.requirements)
            kept = conflict_within(feasibility, open_groups)
            groups = tuple(g for g in open_groups if kept & set(g))
        if not groups:
            return _solved(builder, list(steps.values()), effort)
        members = frozenset(i for g in groups for i in g)
        found = [_step(here, feasibility, g, members - set(g)) for g in groups]
        smallest = min(found, key=lambda s: (s.size, s.group))
        again = smallest.group in steps  # moved before and in conflict again: drop it
        steps[smallest.group] = _Step(smallest.group, Fraction(1), None) if again else smallest
    return None


def _step(builder: Builder, feasibility: Feasibility, group: Group, others: frozenset[int]) -> _Step:
    requirement = builder.tables.search.requirements[group[0]]
    if len(group) > 1 or not isinstance(requirement, LinearRequirement):
        return _Step(group, Fraction(1), None)
    reached = reach(builder, feasibility, requirement, others)
    written = None if reached is None else in_users_unit(requirement, reached.value, reached.parent)
    if written is None:
        return _Step(group, Fraction(1), None)
    bound = requirement.bound if requirement.parent_ratio is None else requirement.parent_ratio
    assert bound is not None
    return _Step(group, abs(written.value - bound) / abs(bound) if bound else abs(written.value), written)


def _relaxed(search: Search, steps: Iterable[_Step]) -> Search:
    """Return the search with the steps applied. A dropped requirement is replaced by one that always holds."""
    requirements: list[Requirement] = list(search.requirements)
    for step in steps:
        for index in step.group:
            here = requirements[index]
            if step.written is None or not isinstance(here, LinearRequirement):
                requirements[index] = LogicRequirement(formula=And(operands=()), where=here.where)
            else:
                field = "bound" if here.parent_ratio is None else "parent_ratio"
                requirements[index] = here.model_copy(update={field: step.written.value})
    return search.model_copy(update={"requirements": tuple(requirements)})


def _solved(builder: Builder, steps: Sequence[_Step], effort: Effort) -> Relaxation | None:
    """Solve the relaxed search and return the relaxation with its verified solution; None if none is found in time."""
    here = builder.for_search(_relaxed(builder.tables.search, steps))
    found = best_meeting_all(here.tables, here.all(), replace(effort, gap=GAP))
    if found.layers is None:
        return None
    solution = checked(here.tables, found)
    requirements = builder.tables.search.requirements
    changes = []
    for step in sorted(steps, key=lambda s: s.group):
        where = requirements[step.group[0]].where
        bound = None if step.written is None else step.written.text
        changes.append(Change(line=where.line, text=where.text, bound=bound))
    return Relaxation(changes=tuple(changes), objective=solution.objective, layers=solution.layers)
