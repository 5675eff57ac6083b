"""Explanation of an infeasible search: its conflict, the best reachable value of each requirement, the smallest relaxation.

A relaxation moves one bound of each conflict as far as necessary. The relaxed search is solved to verify it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Literal

from puzzledsl.ir.nodes import And, Baseline, LinearRequirement, LogicRequirement, Requirement, Search
from puzzledsl.ir.tables import Change, ConflictItem, Relaxation, SearchResult
from puzzledsl.search.answer import best_meeting_all, checked
from puzzledsl.search.batches import Found, best_of
from puzzledsl.search.effort import Effort
from puzzledsl.search.infeasible.conflict import Feasibility, Group, Kept, members_of, minimal_conflict
from puzzledsl.search.infeasible.verdicts import Written, in_users_unit
from puzzledsl.search.needs import is_amount
from puzzledsl.search.problem.box import Box
from puzzledsl.search.problem.instance import Goal, Problem
from puzzledsl.search.problem.metrics import Child
from puzzledsl.search.problem.problem import Problems, bounds_of, goal_of

FOR_CONFLICT = 0.6  # share of the time left for naming the conflict; the rest is for the smallest relaxation
GAP = 1e-4  # relative gap of a reachable value, below the digits shown
WORK = 0.02  # CP-SAT's deterministic seconds for a reachable value, and again for its last digit
LABELS = 0  # no label setting: with counting requirements the bound removes few columns, and sweeps are slow
RELAXED_GAP = 1e-3  # a relaxed search is solved only to show that it has a solution
PARENTS_OWN = {"parent_ratio": Fraction(1)}
ALL = Fraction(1)  # size of the step that drops a requirement


@dataclass(frozen=True, slots=True)
class Step:
    """A statement whose bound moves to the best value that is reachable; or that is dropped (`written` is None).

    `size`: relative move of the bound. `proven`: no better value reads differently. `model`: what reaches the value.
    """

    size: Fraction
    group: Group
    written: Written | None = None
    proven: bool = True
    model: Found | None = None


def explained(problems: Problems, result: SearchResult, effort: Effort) -> SearchResult:
    """Add the conflict and, unless the solver is a baseline, the smallest relaxation to an infeasible result."""
    feasibility = Feasibility(problems, effort.share(FOR_CONFLICT))
    groups, requirements = minimal_conflict(feasibility), problems.tables.search.requirements
    kept, every = members_of(groups), frozenset(range(len(requirements)))
    items, steps = list[ConflictItem](), dict[Group, Step]()
    for number, group in enumerate(groups):
        own = replace(feasibility, effort=feasibility.effort.share(1 / (len(groups) - number + 1)))
        step, first = reach(own, group, kept - set(group)), requirements[group[0]]
        steps[group] = step
        item = ConflictItem(
            line=first.where.line,
            text=first.where.text,
            because=first.because,
            reachable="" if step.written is None else step.written.text,
            proven=step.proven,
            frees=own.can_meet(every - set(group)),
        )
        items.append(item)
    minimal = all(feasibility.can_meet(kept - set(group)) for group in groups)
    relaxation = None
    if groups and effort.left_s > 0 and not isinstance(problems.tables.search.solver, Baseline):
        free = [group for group, item in zip(groups, items, strict=True) if item.frees]
        known = steps if kept == every else {}
        relaxation = smallest_relaxation(replace(feasibility, effort=effort), groups, free, known)
    added = {"conflict": tuple(items), "conflict_minimal": minimal, "relaxation": relaxation}
    return result.model_copy(update=added)


def reach(feasibility: Feasibility, group: Group, kept: Kept) -> Step:
    """Return the least move of a statement's bound with which `kept` can be met, too; without one, the step that drops it."""
    requirement, dropped = feasibility.problems.tables.search.requirements[group[0]], Step(ALL, group)
    if len(group) > 1 or not isinstance(requirement, LinearRequirement):
        return dropped
    senses: list[Literal["minimize", "maximize"]] = []
    senses += ["minimize"] if requirement.op in ("<=", "<", "==") else []
    senses += ["maximize"] if requirement.op in (">=", ">", "==") else []
    found = [_nearest(feasibility, group, kept, requirement, sense) for sense in senses]
    return min((step for step in found if step is not None), key=_by_size, default=dropped)


def _by_size(step: Step) -> tuple[Fraction, Group]:
    return step.size, step.group


def _nearest(
    feasibility: Feasibility,
    group: Group,
    kept: Kept,
    requirement: LinearRequirement,
    sense: Literal["minimize", "maximize"],
) -> Step | None:
    """Return the best value in one sense over all batches; for an equation, the nearest value on one side of its bound.

    Values of a requirement relative to the parent are optimised as ratios to the parent's value at the same batch. Over boxes
    with several batches, its left side must not be negative either, so that bounds on both values bound the ratio.
    """
    problems, parents = feasibility.problems, requirement.model_copy(update=PARENTS_OWN)
    if requirement.op == "==":  # stay on one side of the bound
        side = requirement.model_copy(update={"op": ">=" if sense == "minimize" else "<="})
        search = problems.tables.search
        kept |= {len(search.requirements)}
        with_side = search.model_copy(update={"requirements": (*search.requirements, side)})
        problems = replace(problems, builder=problems.builder.for_search(with_side))
    builder = problems.builder
    alone = all(box.is_single for box in problems.boxes)
    divided = requirement.parent_ratio is not None and (alone or is_amount(requirement.left))

    def aimed(problem: Problem, box: Box) -> Problem:
        goal = goal_of(builder, requirement.left, sense, box)
        if divided:
            goal = _over_the_parent(goal, bounds_of(builder, parents, box), sense)
        return replace(problem, goal=goal, preferences=())

    aims = replace(feasibility, problems=problems).only(kept, aimed)
    return _best_reach(feasibility, group, requirement, aims, divided)


def _over_the_parent(goal: Goal, parents: tuple[Fraction, Fraction], sense: str) -> Goal:
    """Divide an objective by the parent's value; of its (least, most) in a box, by the one that keeps the bound valid."""
    parent = abs(parents[0] if sense == "maximize" else parents[1]) or Fraction(1)
    if goal.tokens is None:
        return replace(goal, unit=goal.unit / parent, constant=goal.constant / parent)
    tokens = goal.tokens
    scaled = replace(tokens, factor=tokens.factor / parent, constant=tokens.constant / parent)
    return replace(goal, tokens=scaled)


def _best_reach(
    feasibility: Feasibility, group: Group, requirement: LinearRequirement, problems: Problems, divided: bool
) -> Step | None:
    """Return the step to the best value of the problems' objective, with as little work as its digits need; else None."""
    whole, floors, step = feasibility.effort, dict[Box, int](), None
    bound, little = requirement.limit, replace(whole, work=WORK, labels=LABELS)
    for effort in (replace(little, gap=GAP), replace(little, gap=0.0), replace(whole, gap=0.0)):
        if whole.left_s <= 0:
            break
        found = best_of(problems, effort, floors, canonical=False)
        if found.layers is None:
            continue
        feasibility.saw(found.layers, Box.at(found.batches))
        child = Child(problems.tables, found.layers, found.batches)
        value, parent = child.linear(requirement.left), child.parent().linear(requirement.left)
        written = in_users_unit(requirement, value, parent)
        best = found.bound if found.bound is None or not divided else found.bound * (abs(parent) or 1)
        proven = best is not None and written == in_users_unit(requirement, best, parent)
        size = ALL if written is None else abs(written.value - bound) / (abs(bound) or 1)
        step = Step(size, group, written, proven, replace(found, value=None))
        if proven:
            break
    return step


def smallest_relaxation(
    feasibility: Feasibility, groups: Sequence[Group], free: Sequence[Group], known: Mapping[Group, Step]
) -> Relaxation | None:
    """Return a verified relaxation of a conflict, of one bound rather than several, and the smallest; None if time runs out.

    `free`: statements whose removal alone makes the search feasible. `known`: steps that are computed already.
    """
    problems, effort = feasibility.problems, feasibility.effort
    every, single = frozenset(range(len(problems.tables.search.requirements))), list[Step]()
    for number, group in enumerate(free):  # in half of the time: what is reached is solved then
        own = replace(feasibility, effort=effort.share(1 / (2 * len(free) - number)))
        single.append(known.get(group) or reach(own, group, every - set(group)))
    single.sort(key=_by_size)
    dropped = [Step(ALL, step.group) for step in single if step.written is not None]
    for step in (*single, *dropped):  # an equation may have no exact literal, and must be dropped
        shown = _solved(problems, [step], effort)
        if shown is not None or effort.left_s <= 0:
            return shown
    return _in_turn(feasibility, groups)


def _in_turn(feasibility: Feasibility, groups: Sequence[Group]) -> Relaxation | None:
    """Resolve one conflict after another, each by its smallest step, until the search is feasible."""
    problems, effort, steps = feasibility.problems, feasibility.effort, dict[Group, Step]()
    while groups:
        if effort.left_s <= 0:
            return None
        own = replace(feasibility, effort=effort.share(0.5))
        members = members_of(groups)
        smallest = min((reach(own, g, members - set(g)) for g in groups), key=_by_size)
        again = smallest.group in steps  # moved before and in conflict again: drop it
        steps[smallest.group] = Step(ALL, smallest.group) if again else smallest
        feasibility = Feasibility(_relaxed(problems, steps.values()), effort)
        groups = minimal_conflict(feasibility)
    return _solved(problems, list(steps.values()), effort)


def _relaxed(problems: Problems, steps: Iterable[Step]) -> Problems:
    """Return the problems with the steps applied. A dropped requirement is replaced by one that always holds."""
    search = problems.tables.search
    requirements: list[Requirement] = list(search.requirements)
    for step in steps:
        for index in step.group:
            here = requirements[index]
            if step.written is None or not isinstance(here, LinearRequirement):
                requirements[index] = LogicRequirement(formula=And(operands=()), where=here.where)
            else:
                field = "bound" if here.parent_ratio is None else "parent_ratio"
                requirements[index] = here.model_copy(update={field: step.written.value})
    relaxed: Search = search.model_copy(update={"requirements": tuple(requirements)})
    return replace(problems, builder=problems.builder.for_search(relaxed))


def _solved(problems: Problems, steps: Sequence[Step], effort: Effort) -> Relaxation | None:
    """Return the relaxation with a verified solution: the best one, else the model that reached its bound; else None."""
    here = _relaxed(problems, steps)
    found, (first, *others) = best_meeting_all(here.tables, here, replace(effort, gap=RELAXED_GAP)), steps
    model = None if others or found.layers is not None else first.model
    if model is not None and Child(here.tables, model.layers or (), model.batches).is_right():
        found = model
    if found.layers is None:
        return None
    solution = checked(here.tables, found)
    changes = []
    for step in sorted(steps, key=lambda s: s.group):
        where = problems.tables.search.requirements[step.group[0]].where
        bound = None if step.written is None else step.written.text
        changes.append(Change(line=where.line, text=where.text, bound=bound))
    return Relaxation(changes=tuple(changes), objective=solution.objective, layers=solution.layers)
