"""Why a search has no answer: a smallest set of requirements that conflict, and how far each could go.

A deletion filter: drop a requirement; if the rest still has no answer it stays dropped. Each test first asks the Lagrangian
relaxation, which often proves it alone; CP-SAT decides what is left. (Assumption literals on such rows are slow and their cores
wrong.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Literal

import numpy as np

from puzzledsl.diagnostics import Diagnostic, Label
from puzzledsl.ir.nodes import LinearRequirement, Program, Requirement, Where
from puzzledsl.ir.tables import ConflictItem, SearchResult
from puzzledsl.search.bound import lagrangian_bound
from puzzledsl.search.core import minimise, open_columns
from puzzledsl.search.cpsat import Effort
from puzzledsl.search.errors import NoSolution, span_of
from puzzledsl.search.incumbent import find_incumbent
from puzzledsl.search.instance import Mask, Problem, Row
from puzzledsl.search.problem import Builder
from puzzledsl.search.reachable import in_users_unit
from puzzledsl.search.rows import bound_of, goal_of

Group = tuple[int, ...]  # requirements written by one `require` (several inside a `for`)
PARENTS_OWN = {"parent_ratio": Fraction(1)}
NUMBERS = {2: "two", 3: "three", 4: "four", 5: "five", 6: "six", 7: "seven", 8: "eight", 9: "nine"}


def explain(builder: Builder, problems: Sequence[Problem], effort: Effort) -> tuple[ConflictItem, ...]:
    """A minimal conflict of an infeasible search, in source order. Empty where the space itself has no model that fits.

    Minimal: without any one of its requirements the others can be met (as far as was decided in time).
    """
    requirements = builder.tables.search.requirements
    every = frozenset(range(len(requirements)))
    groups, kept = groups_of(requirements), every
    if can_meet(problems, frozenset(), effort) is False:
        return ()
    for group in reversed(groups):
        without = kept - set(group)
        if can_meet(problems, without, effort) is False:
            kept = without
    conflict = [g for g in groups if kept & set(g)]
    return tuple(
        _item(builder, problems, group, kept - set(group), every - set(group), effort) for group in conflict
    )


def groups_of(requirements: Sequence[Requirement]) -> list[Group]:
    """Requirements by the statement that wrote them, in order."""
    groups: dict[Where, list[int]] = {}
    for index, requirement in enumerate(requirements):
        groups.setdefault(requirement.where, []).append(index)
    return [tuple(indices) for indices in groups.values()]


def can_meet(problems: Sequence[Problem], kept: frozenset[int], effort: Effort) -> bool | None:
    """Whether some model meets the requirements in `kept`, at some batch. None: not decided in time."""
    answers = [_can_meet(subset_of(problem, kept), effort) for problem in problems]
    return True if True in answers else None if None in answers else False


def subset_of(problem: Problem, kept: frozenset[int]) -> Problem:
    """The problem with these requirements alone (and what is no requirement, such as fitting)."""
    return replace(
        problem,
        rows=tuple(r for r in problem.rows if r.requirement is None or r.requirement in kept),
        formulas=tuple(f for f in problem.formulas if f.requirement is None or f.requirement in kept),
    )


def _can_meet(problem: Problem, effort: Effort) -> bool | None:
    """Minimise one row subject to the others: the limit is then reachable or it is not."""
    opened = open_columns(problem)
    if opened is None:
        return False
    problem = problem.only(opened)
    aim = problem.rows[-1] if problem.rows else Row("", np.zeros_like(problem.goal.values), 0)
    goal = replace(problem.goal, values=aim.coefficients, exact=True, tokens=None)
    aimed = replace(problem, goal=goal, rows=problem.rows[:-1], preferences=())
    bound = lagrangian_bound(aimed)
    if bound.infeasible or bound.value > aim.limit:
        return False
    incumbent = find_incumbent(aimed, bound)
    if incumbent is not None and goal.of(incumbent) <= aim.limit:
        return True
    outcome = minimise(aimed, effort, canonical=False)
    if outcome.value is not None and outcome.value <= aim.limit:
        return True
    if outcome.infeasible or (outcome.bound is not None and outcome.bound > aim.limit):
        return False
    return None


@dataclass(frozen=True, slots=True)
class Reach:
    """How far a requirement's left side can go: its value, and the parent's at the same batch."""

    value: Fraction
    parent: Fraction


def reach(
    builder: Builder,
    problems: Sequence[Problem],
    requirement: LinearRequirement,
    kept: frozenset[int],
    effort: Effort,
) -> Reach | None:
    """The best value of a requirement's left side with the requirements in `kept` met; None where there is none or for `==`."""
    if requirement.op == "==":
        return None
    sense: Literal["minimize", "maximize"] = "maximize" if requirement.op in (">=", ">") else "minimize"
    best: tuple[Fraction, Reach] | None = None
    for problem in problems:
        goal = goal_of(builder, requirement.left, sense, problem.batches)
        goal = goal.only(_own_columns(builder, problem))
        aimed = replace(subset_of(problem, kept), goal=goal, preferences=())
        outcome = minimise(aimed, effort, canonical=False)
        value = None if outcome.value is None else goal.in_units(outcome.value)
        if value is None:
            continue
        parent = bound_of(builder, requirement.model_copy(update=PARENTS_OWN), problem.batches)
        short = abs(value - bound_of(builder, requirement, problem.batches))
        rank = short / abs(parent) if requirement.parent_ratio is not None and parent else short
        if best is None or rank < best[0]:
            best = (rank, Reach(value, parent))
    return None if best is None else best[1]


def _own_columns(builder: Builder, problem: Problem) -> Mask:
    """Which of all columns a (restricted) problem has."""
    own = set(zip(problem.columns.layer_of.tolist(), problem.columns.choices, strict=True))
    return np.array([key in own for key in builder.coefficients.keys], dtype=np.bool_)


def _item(
    builder: Builder,
    problems: Sequence[Problem],
    group: Group,
    others: frozenset[int],
    rest: frozenset[int],
    effort: Effort,
) -> ConflictItem:
    requirement = builder.tables.search.requirements[group[0]]
    text = ""
    if isinstance(requirement, LinearRequirement) and len(group) == 1:
        reached = reach(builder, problems, requirement, others, effort)
        text = "" if reached is None else in_users_unit(requirement, reached.value, reached.parent)
    return ConflictItem(
        line=requirement.where.line,
        text=requirement.where.text,
        because=requirement.because,
        reachable=text,
        frees=can_meet(problems, rest, effort),
    )


# ---------------------------------------------------------------- the diagnostic


def infeasible_diagnostic(program: Program, result: SearchResult) -> Diagnostic:
    """E0501: every requirement of the conflict underlined, with its best value once the others are kept."""
    search = program.searches[result.search]
    groups = [search.requirements[g[0]] for g in groups_of(search.requirements)]
    labels = []
    for item in result.conflict:
        requirement = next(r for r in groups if (r.where.line, r.where.text) == (item.line, item.text))
        at = requirement.bound_where if isinstance(requirement, LinearRequirement) else requirement.where
        labels.append(Label(span_of(at), _label(item, len(result.conflict))))
    if not labels:
        note = "no model of the space fits, whatever is required" if groups else "the space has no model"
        return NoSolution(span_of(search.where), name=search.name, notes=[note])
    return NoSolution(
        labels[0].span,
        labels[0].text,
        name=search.name,
        secondary=labels[1:],
        notes=[_note(result.conflict, len(groups))],
    )


def _label(item: ConflictItem, size: int) -> str:
    others = "" if size == 1 else " with the other" + (f" {_word(size - 1)}" if size > 2 else "")
    if not item.reachable:
        return f"cannot be met{others}"
    return f"best{others or ' possible'}: {item.reachable}"


def _note(conflict: Sequence[ConflictItem], of: int) -> str:
    size = len(conflict)
    if size == 1:
        what = f"this 1 of {of} cannot be met"
        freed = "dropping it makes the rest satisfiable"
    else:
        what = f"these {size} of {of} conflict"
        freed = f"dropping {'either' if size == 2 else 'any one'} makes the rest satisfiable"
    if all(item.frees for item in conflict):
        return f"{what}; {freed}"
    lines = ", ".join(str(item.line) for item in conflict if item.frees)
    if lines:
        return f"{what}; dropping the one in line {lines} makes the rest satisfiable"
    return f"{what}; there is another conflict besides"


def _word(number: int) -> str:
    return NUMBERS.get(number, str(number))
