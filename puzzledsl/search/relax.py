"""The smallest change that gives an infeasible search an answer: one bound moved as far as it must (or, where several
conflicts stand side by side, one bound in each), and the search then solved to show it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from puzzledsl.ir.nodes import And, LinearRequirement, LogicRequirement, Requirement, Search
from puzzledsl.ir.tables import Change, Relaxation
from puzzledsl.search.answer import checked
from puzzledsl.search.cpsat import Effort
from puzzledsl.search.exact import best_meeting_all
from puzzledsl.search.explain import Conflict, Group, conflict_within, groups_of, reach
from puzzledsl.search.feasible import Feasibility
from puzzledsl.search.problem import Builder
from puzzledsl.search.reachable import Written, in_users_unit

GAP = 1e-3  # the answer of a relaxed search only shows that there is one


@dataclass(frozen=True, slots=True)
class _Step:
    """One way out of one conflict. `size`: how much of itself a bound gives up; a requirement that is dropped gives up all."""

    group: Group
    size: Fraction
    written: Written | None


def smallest_relaxation(builder: Builder, conflict: Conflict, effort: Effort) -> Relaxation | None:
    """A relaxation with a verified answer; None where there is none (the space has no model that fits) or time runs out.

    A single bound is preferred to several, a smaller move to a larger, a move to a dropped requirement.
    """
    if not conflict.groups:
        return None
    steps = _single_steps(builder, conflict, effort)
    dropped = [_Step(step.group, Fraction(1), None) for step in steps if step.written is not None]
    for step in (*steps, *dropped):  # no literal may be exact enough for an equation
        shown = _solved(builder, [step], effort)
        if shown is not None:
            return shown
    return _in_turn(builder, conflict, effort)


def _single_steps(builder: Builder, conflict: Conflict, effort: Effort) -> list[_Step]:
    """For each requirement that alone stands in the way: how far it must move, the others of the whole search kept."""
    every = frozenset(range(len(builder.tables.search.requirements)))
    feasibility = Feasibility(builder.tables, builder.all(), effort)
    steps = [
        _step(builder, feasibility, group, every - set(group))
        for group, item in zip(conflict.groups, conflict.items, strict=True)
        if item.frees
    ]
    return sorted(steps, key=lambda s: (s.size, s.group))


def _in_turn(builder: Builder, conflict: Conflict, effort: Effort) -> Relaxation | None:
    """One step out of each conflict, the smallest, until none is left."""
    steps: dict[Group, _Step] = {}
    groups = conflict.groups
    for _ in range(2 * len(groups_of(builder.tables.search.requirements)) + 1):
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
        again = smallest.group in steps  # moved before, and in the way again
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
    """The search with its bounds moved. A dropped requirement keeps its place, as one that always holds."""
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
    """The relaxed search's answer, verified; None where there is none (in time)."""
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
