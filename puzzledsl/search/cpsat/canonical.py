"""Canonical answer: the lexicographically first of all best answers, found by CP-SAT a group of layers at a time."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np

from puzzledsl.search.cpsat.solve import run_cpsat
from puzzledsl.search.effort import Effort
from puzzledsl.search.lagrangian.bound import Bound
from puzzledsl.search.problem.columns import Ints
from puzzledsl.search.problem.instance import Goal, Problem, Row

WORK = 30.0  # CP-SAT's deterministic seconds for one group
LARGEST_INDEX = 2**50  # limit on the number that encodes a group's columns in the canonical order


def canonical_answer(problem: Problem, bound: Bound, chosen: Ints, effort: Effort) -> Ints:
    """Return the best answer that comes first in the order of the space, given any best answer `chosen`.

    If a step takes too long, return the answer so far: only its first groups of layers are then canonical.
    """
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
        settled = np.ones(len(problem.columns), dtype=np.bool_)
        for layer in group:
            settled[problem.columns.span(layer)] = False
            settled[chosen[layer]] = True
        origin, chosen = origin[settled], (np.cumsum(settled) - 1)[chosen].astype(np.int64)
        problem = problem.only(settled)
    return np.asarray(origin[chosen], dtype=np.int64)


def _is_only_best(problem: Problem, chosen: Ints, effort: Effort) -> bool:
    """Return True if every other answer is proven worse.

    CP-SAT minimises over the others, which is far easier than to prove that none is as good.
    """
    other = problem.with_rows(problem.apart_from(problem.choice(chosen), 1))
    if (np.diff(problem.columns.start) == 1).all():
        return True
    second = run_cpsat(other, effort, at_least=problem.goal.of(chosen))
    return second.proven and (second.bound is None or second.bound > problem.goal.of(chosen))


def _next_group(problem: Problem) -> list[int] | None:
    """Return the first undecided layers whose combinations can be numbered up to LARGEST_INDEX; None if all are decided."""
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
    """Return the weight of each column such that an answer's sum is its number in the canonical order of `group`."""
    values = np.zeros(len(problem.columns), dtype=np.int64)
    weight = 1
    for layer in reversed(group):
        here = problem.columns.span(layer)
        values[here] = weight * problem.columns.rank[here]
        weight *= here.stop - here.start
    return values
