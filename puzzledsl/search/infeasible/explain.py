"""Explanation of an infeasible search: its conflict, the best reachable value of each requirement, the smallest relaxation.

The conflict is an irreducible infeasible set by deletion filter (Chinneck & Dravnieks 1991), on an oracle with memory: a model
that was found decides every subset of the requirements that it meets, a refuted set every superset. A new question goes first
to the Lagrangian relaxation, which names the rows it needed, and to a repaired incumbent; then the solver minimises one row.
(CP-SAT's assumption literals are slow on such rows, and their cores wrong.) A relaxation moves one bound of each conflict, as
far as necessary, and is solved to verify it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction

import numpy as np

from puzzledsl.ir import nodes
from puzzledsl.ir.logic import holds
from puzzledsl.ir.tables import Assignment, Change, ConflictItem, Relaxation, SearchResult
from puzzledsl.search.answer import best_meeting_all, checked
from puzzledsl.search.batches import Found, best_of
from puzzledsl.search.infeasible.verdicts import Written, in_users_unit
from puzzledsl.search.lagrangian.bound import lagrangian_bound
from puzzledsl.search.portfolio.minimise import find_incumbent, minimise
from puzzledsl.search.problem.instance import Effort, Problem, Row, presolve
from puzzledsl.search.problem.metrics import Box, Child
from puzzledsl.search.problem.normal_form import Formula
from puzzledsl.search.problem.problem import Problems, Sense, bounds_of, formulas_of, goal_of

Kept = frozenset[int]  # numbers of requirements
Group = tuple[int, ...]  # numbers of the requirements of one `require` statement (several inside a `for`)
PATIENCE = 0.2  # share of the time left for one question, at first


def groups_of(requirements: Sequence[nodes.Requirement]) -> list[Group]:
    """Group the requirements by their statement, in source order."""
    groups: dict[nodes.Where, list[int]] = {}
    for index, requirement in enumerate(requirements):
        groups.setdefault(requirement.where, []).append(index)
    return [tuple(indices) for indices in groups.values()]


def members_of(groups: Iterable[Group]) -> Kept:
    """Return the requirements of several statements."""
    return frozenset(i for group in groups for i in group)


def minimal_conflict(feasibility: Feasibility) -> tuple[Group, ...]:
    """Return a minimal set of statements that no model meets (larger if time ends); empty if all can be met or no model fits."""
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
        """Remember a model at its own batches or `near`'s. Return the requirements it meets there; none if it does not fit."""
        box, tables = self.problems.box_of(layers, near), self.problems.tables
        if box is None:
            return frozenset()
        child, chosen = Child(tables, tuple(layers), box.lows), dict(enumerate(layers))
        if not all(map(child.fits, tables.scenarios)):
            return frozenset()
        failed = {f.requirement for f in formulas_of(tables) if not holds(f.logic, chosen)}
        numbered = enumerate(tables.search.requirements)
        failed |= {i for i, r in numbered if isinstance(r, nodes.LinearRequirement) and not child.meets(r)}
        met = frozenset(range(len(tables.search.requirements))) - failed
        self._met.append(met)
        return met

    def only(self, kept: Kept, then: Callable[[Problem, Box], Problem] | None = None) -> Problems:
        """Return the problems with the requirements in `kept` alone. `then`: a further change, before those that they have."""
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

        Else return (None, batches of a relaxed model or None); a model that meets everything asked is remembered. For a
        box of several batches only the bound and a repaired answer are tried, with the last row as the objective.
        """
        formulas = _named(whole.formulas)  # always: the bound may depend on what they exclude
        presolved = presolve(whole, quick=True)
        if presolved is None:
            return formulas, None
        problem, origin, near = presolved.problem, presolved.origin, None
        aims = range(len(problem.rows) - 1, -1, -1) if problem.rows else (None,)
        for place in aims if box.is_single else aims[:1]:
            if self.effort.left_s <= 0:
                return None, near
            aim, aimed = _aimed(problem, place)
            bound = lagrangian_bound(aimed, deadline=self.effort.deadline)
            if bound.infeasible or bound.value > aim.limit:
                priced = [row for row, price in zip(aimed.rows, bound.prices, strict=True) if price]
                return formulas | _named(priced if bound.infeasible else [*priced, aim]), None
            incumbent = find_incumbent(aimed, bound, self.effort.deadline)
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


FOR_CONFLICT = 0.6  # share of the time left for naming the conflict; the rest is for the smallest relaxation
GAP = 1e-4  # relative gap of a reachable value, below the digits shown
WORK = 0.02  # CP-SAT's deterministic seconds for a reachable value, and again for its last digit
LABELS = 0  # no label setting: with counting requirements the bound removes few columns, and sweeps are slow
RELAXED_GAP = 1e-3  # a relaxed search is solved only to show that it has a solution
ALL = Fraction(1)  # size of the step that drops a requirement


@dataclass(frozen=True, order=True, slots=True)
class Step:
    """A statement whose bound moves to the best value that is reachable; or that is dropped (`written` is None).

    `size`: relative move of the bound. `proven`: a better value, if any, is written the same. `model`: answer that has the value.
    """

    size: Fraction
    group: Group
    written: Written | None = field(default=None, compare=False)
    proven: bool = field(default=True, compare=False)
    model: Found | None = field(default=None, compare=False)


def explained(problems: Problems, result: SearchResult, effort: Effort) -> SearchResult:
    """Add the conflict and the smallest relaxation to an infeasible result."""
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
    if groups and effort.left_s > 0:
        free = [group for group, item in zip(groups, items, strict=True) if item.frees]
        known = steps if kept == every else {}
        relaxation = smallest_relaxation(replace(feasibility, effort=effort), groups, free, known)
    added = {"conflict": tuple(items), "conflict_minimal": minimal, "relaxation": relaxation}
    return result.model_copy(update=added)


def reach(feasibility: Feasibility, group: Group, kept: Kept) -> Step:
    """Return the least move of a statement's bound with which `kept` can be met, too; without one, the step that drops it."""
    requirement, dropped = feasibility.problems.tables.search.requirements[group[0]], Step(ALL, group)
    if len(group) > 1 or not isinstance(requirement, nodes.LinearRequirement):
        return dropped
    senses: list[Sense] = []
    senses += ["minimize"] if requirement.op in ("<=", "<", "==") else []
    senses += ["maximize"] if requirement.op in (">=", ">", "==") else []
    found = [_nearest(feasibility, group, kept, requirement, sense) for sense in senses]
    return min((step for step in found if step is not None), default=dropped)


def _nearest(
    feasibility: Feasibility, group: Group, kept: Kept, requirement: nodes.LinearRequirement, sense: Sense
) -> Step | None:
    """Return the step to the value best in `sense` over all batches, as precise as its digits need; None if none is found.

    Of an equation, it is the nearest value on one side of the bound.

    Values of a requirement relative to the parent are optimised as ratios to the parent's value at the same batch. Over boxes
    with several batches, its left side must not be negative either, so that bounds on both values bound the ratio.
    """
    problems, parents = feasibility.problems, requirement.model_copy(update={"parent_ratio": Fraction(1)})
    if requirement.op == "==":  # stay on one side of the bound
        side = requirement.model_copy(update={"op": ">=" if sense == "minimize" else "<="})
        search = problems.tables.search
        kept |= {len(search.requirements)}
        with_side = search.model_copy(update={"requirements": (*search.requirements, side)})
        problems = replace(problems, builder=problems.builder.for_search(with_side))
    builder = problems.builder
    left, divided = requirement.left, requirement.parent_ratio is not None
    if not all(box.is_single for box in problems.boxes):  # costs, counts and figures are never negative
        free = (w for w in left.terms if w.coefficient < 0 or w.term.kind in ("score", "table"))
        divided &= left.constant >= 0 and not any(free)

    def aimed(problem: Problem, box: Box) -> Problem:
        goal = goal_of(builder, requirement.left, sense, box)
        if divided:  # by the parent's least or greatest value in the box, which keeps the bound valid
            parent = abs(bounds_of(builder, parents, box)[sense == "minimize"]) or Fraction(1)
            if (tokens := goal.tokens) is None:
                goal = replace(goal, unit=goal.unit / parent, constant=goal.constant / parent)
            else:
                tokens = replace(tokens, factor=tokens.factor / parent, constant=tokens.constant / parent)
                goal = replace(goal, tokens=tokens)
        return replace(problem, goal=goal, preferences=())

    problems = replace(feasibility, problems=problems).only(kept, aimed)
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
    single.sort()
    dropped = [Step(ALL, step.group) for step in single if step.written is not None]
    for step in (*single, *dropped):  # an equation may have no exact literal, and must be dropped
        shown = _solved(problems, [step], effort)
        if shown is not None or effort.left_s <= 0:
            return shown
    return _in_turn(feasibility, groups)


def _in_turn(feasibility: Feasibility, groups: Sequence[Group]) -> Relaxation | None:
    """Resolve one conflict after another, each by its smallest step, until the search is feasible; None if time runs out."""
    problems, effort, steps = feasibility.problems, feasibility.effort, dict[Group, Step]()
    while groups:
        if effort.left_s <= 0:
            return None
        own = replace(feasibility, effort=effort.share(0.5))
        members = members_of(groups)
        smallest = min(reach(own, g, members - set(g)) for g in groups)
        again = smallest.group in steps  # moved before and in conflict again: drop it
        steps[smallest.group] = Step(ALL, smallest.group) if again else smallest
        feasibility = Feasibility(_relaxed(problems, steps.values()), effort)
        groups = minimal_conflict(feasibility)
    return _solved(problems, list(steps.values()), effort)


def _relaxed(problems: Problems, steps: Iterable[Step]) -> Problems:
    """Return the problems with the steps applied. A dropped requirement is replaced by one that always holds."""
    search = problems.tables.search
    requirements: list[nodes.Requirement] = list(search.requirements)
    for step in steps:
        for index in step.group:
            here = requirements[index]
            if step.written is None or not isinstance(here, nodes.LinearRequirement):
                requirements[index] = nodes.LogicRequirement(formula=nodes.And(operands=()), where=here.where)
            else:
                field = "bound" if here.parent_ratio is None else "parent_ratio"
                requirements[index] = here.model_copy(update={field: step.written.value})
    relaxed: nodes.Search = search.model_copy(update={"requirements": tuple(requirements)})
    return replace(problems, builder=problems.builder.for_search(relaxed))


def _solved(problems: Problems, steps: Sequence[Step], effort: Effort) -> Relaxation | None:
    """Return the relaxation with a verified solution: the best one, else the model that reached its bound; else None."""
    here = _relaxed(problems, steps)
    found, (first, *others) = best_meeting_all(here, replace(effort, gap=RELAXED_GAP)), steps
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
