"""Minimise a problem: bound it, keep the columns that can be in a best answer, solve that core, prove the rest cannot matter.

The answer is canonical: of all best answers, the one whose columns come first in the order of the space (layer 0 decides first).
So it depends on no seed and no number of workers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from puzzledsl.search.bound import Bound, lagrangian_bound
from puzzledsl.search.cpsat import Answer, Effort, run_cpsat
from puzzledsl.search.incumbent import find_incumbent
from puzzledsl.search.instance import Goal, Ints, Mask, Problem, Row
from puzzledsl.search.metrics import holds, layers_of

FIRST_CORE = 4  # columns a layer, on average, of the first core
WIDER = 3  # times as many columns for the next core
WORK = 30.0  # CP-SAT's deterministic seconds for one step of making an answer canonical
LARGEST_INDEX = 2**50  # of the numbers that stand for several layers' columns in the canonical order


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """The end of a minimisation. `chosen` are columns of the problem that was given; `bound` is a proven bound on the sum.

    `proven` with no answer: there is none. `proven` with one: no better one, up to the gap that was asked for.
    """

    chosen: Ints | None
    value: int | None
    bound: int | None
    proven: bool

    @property
    def infeasible(self) -> bool:
        """Proven to have no answer."""
        return self.proven and self.chosen is None


def minimise(
    problem: Problem, effort: Effort, canonical: bool = True, at_least: int | None = None
) -> Outcome:
    """A best answer of a problem, the canonical one unless `canonical` is off or a gap stopped the proof early.

    `at_least` is a bound that is already proven: of the same problem with fewer rows, say.
    """
    kept = open_columns(problem)
    if kept is None:
        return Outcome(None, None, None, True)
    origin = kept.nonzero()[0].astype(np.int64)
    problem = problem.only(kept)
    bound = lagrangian_bound(problem)
    if bound.infeasible:
        return Outcome(None, None, None, True)
    best = _core(problem, bound, effort, bound.value if at_least is None else max(at_least, bound.value))
    if best.chosen is not None and best.value == best.bound and canonical:
        best = replace(best, chosen=_first_of_the_best(problem, bound, best.chosen, effort))
    return best if best.chosen is None else replace(best, chosen=origin[best.chosen])


def open_columns(problem: Problem) -> Mask | None:
    """Columns that the formulas about one layer allow; None where a layer is left with none."""
    columns = problem.columns
    keep = np.ones(len(columns.choices), dtype=np.bool_)
    for formula in problem.formulas:
        if holds(formula.logic, {}) is False:
            return None
        for layer in sorted(layers_of(formula.logic)):
            begin, end = int(columns.start[layer]), int(columns.start[layer + 1])
            truths = [holds(formula.logic, {layer: c}) for c in columns.choices[begin:end]]
            keep[begin:end] &= np.array([t is not False for t in truths], dtype=np.bool_)
    covered = np.logical_or.reduceat(keep, columns.start[:-1])
    return keep if covered.all() else None


def _core(problem: Problem, bound: Bound, effort: Effort, floor: int) -> Outcome:
    """Grow the core until no column outside it can be in a better answer than the one found inside."""
    incumbent = find_incumbent(problem, bound)
    best = None if incumbent is None else problem.goal.of(incumbent)
    limit = _next_limit(bound, FIRST_CORE * problem.columns.layers, best)
    while True:
        keep = bound.within(limit)
        inside = keep.nonzero()[0]
        found = _solve_inside(problem, keep, incumbent, effort, floor)
        if found.chosen is not None:
            chosen = inside[found.chosen].astype(np.int64)
            value = problem.goal.of(chosen)
            if best is None or value < best:
                incumbent, best = chosen, value
        outside = bound.beyond(keep)
        lower = _lowest(found, outside, floor)
        if found.proven and outside is None and best is None:
            return Outcome(None, None, None, True)
        if best is not None and (lower is None or lower >= best):
            return Outcome(incumbent, best, best, True)
        if best is not None and lower is not None and _within_gap(problem.goal, best, lower, effort.gap):
            return Outcome(incumbent, best, lower, True)
        if not found.proven or effort.left_s <= 0 or outside is None:
            return Outcome(incumbent, best, floor if lower is None else lower, False)
        limit = _next_limit(bound, WIDER * int(keep.sum()), best)


def _solve_inside(problem: Problem, keep: Mask, incumbent: Ints | None, effort: Effort, floor: int) -> Answer:
    if not np.logical_or.reduceat(keep, problem.columns.start[:-1]).all():
        return Answer(None, None, True)
    hint = None
    if incumbent is not None and keep[incumbent].all():
        place = np.cumsum(keep) - 1
        hint = place[incumbent].astype(np.int64)
    return run_cpsat(problem.only(keep), effort, hint, floor)


def _lowest(found: Answer, outside: int | None, floor: int) -> int | None:
    """A bound on every answer: inside the core and outside it. None: inside there is none and nothing is outside."""
    inside = found.bound if found.bound is not None else (None if found.proven else floor)
    known = [b for b in (inside, outside) if b is not None]
    return max(min(known), floor) if known else None


def _next_limit(bound: Bound, columns: int, best: int | None) -> int:
    """A sum below which there are about `columns` columns, or the best known one where that is less."""
    slack = np.sort(bound.slack)
    at = int(slack[min(columns, len(slack) - 1)])
    limit = -(-(bound.exact + at) // bound.scale)
    return limit if best is None else min(limit, best)


def _within_gap(goal: Goal, value: int, bound: int, gap: float) -> bool:
    """Whether |value - bound| <= gap * |value|, in the goal's own units."""
    reached, proven = goal.in_units(value), goal.in_units(bound)
    if reached is None or proven is None:
        return value == bound
    return abs(reached - proven) <= Fraction(gap) * abs(reached)


def _first_of_the_best(problem: Problem, bound: Bound, chosen: Ints, effort: Effort) -> Ints:
    """The best answer that comes first in the order of the space. Keeps what it has where a step takes too long."""
    value = problem.goal.of(chosen)
    keep = bound.within(value)
    origin = keep.nonzero()[0].astype(np.int64)
    place = np.cumsum(keep) - 1
    chosen = place[chosen].astype(np.int64)
    problem = problem.only(keep)
    effort = replace(effort, gap=0.0, work=WORK)
    if _is_only_best(problem, chosen, effort):
        return np.asarray(origin[chosen], dtype=np.int64)
    problem = problem.with_rows(Row("goal", problem.goal.values, value))
    while (group := _next_group(problem)) is not None:
        positions = _positions(problem, group)
        goal = Goal(positions, Fraction(1), Fraction(0), 1, False, True)
        answer = run_cpsat(replace(problem, goal=goal), effort, chosen)
        if answer.chosen is None or not answer.proven:
            break
        chosen = answer.chosen
        settled = np.ones(len(problem.columns.choices), dtype=np.bool_)
        for layer in group:
            begin, end = int(problem.columns.start[layer]), int(problem.columns.start[layer + 1])
            settled[begin:end] = False
            settled[chosen[layer]] = True
        origin, chosen = origin[settled], (np.cumsum(settled) - 1)[chosen].astype(np.int64)
        problem = problem.only(settled)
    return np.asarray(origin[chosen], dtype=np.int64)


def _is_only_best(problem: Problem, chosen: Ints, effort: Effort) -> bool:
    """Whether every other answer is worse: the best other one is sought, which is far easier than to prove that
    none is as good."""
    other = problem.with_rows(problem.apart_from(problem.choice(chosen), 1))
    if (np.diff(problem.columns.start) == 1).all():
        return True
    second = run_cpsat(other, effort, at_least=problem.goal.of(chosen))
    return second.proven and (second.bound is None or second.bound > problem.goal.of(chosen))


def _next_group(problem: Problem) -> list[int] | None:
    """The first undecided layers whose columns together have a number below LARGEST_INDEX; None where all are decided."""
    group: list[int] = []
    size = 1
    for layer, width in enumerate(np.diff(problem.columns.start).tolist()):
        if width > 1:
            if group and size * width > LARGEST_INDEX:
                break
            group.append(layer)
            size *= width
    return group or None


def _positions(problem: Problem, group: list[int]) -> Ints:
    """Each column's part in its answer's place in the canonical order of `group`."""
    values = np.zeros(len(problem.columns.choices), dtype=np.int64)
    weight = 1
    for layer in reversed(group):
        begin, end = int(problem.columns.start[layer]), int(problem.columns.start[layer + 1])
        values[begin:end] = weight * np.arange(end - begin)
        weight *= end - begin
    return values
