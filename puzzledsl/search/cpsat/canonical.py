"""Canonical answer: the lexicographically first of all best answers, found by CP-SAT a group of layers at a time."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np

from puzzledsl.search.cpsat.solve import run_cpsat
from puzzledsl.search.effort import Effort
from puzzledsl.search.lagrangian.bound import Bound
from puzzledsl.search.problem.columns import Ints, Mask
from puzzledsl.search.problem.instance import Goal, Problem, Row

WORK = 30.0  # CP-SAT's deterministic seconds for one group
LARGEST_INDEX = 2**50  # limit on the number that encodes a group's columns in the canonical order


def canonical_answer(problem: Problem, bound: Bound, chosen: Ints, effort: Effort) -> Ints:
    """Return the best answer that comes first in the order of the space, given any best answer `chosen`.

    If a step takes too long, return the answer so far: only its first groups of layers are then canonical.
    """
    value, effort = problem.goal.of(chosen), replace(effort, gap=0.0, work=WORK)
    keep = bound.within(value)
    if _is_only_best(problem, keep, chosen, effort):
        return chosen
    problem = problem.with_rows(Row("goal", problem.goal.values, value))
    while group := _next_group(core := problem.only(keep)):
        goal = Goal(_positions(core, group), Fraction(1), Fraction(0), 1, False, True)
        origin = keep.nonzero()[0]
        answer = run_cpsat(replace(core, goal=goal), effort, np.searchsorted(origin, chosen))
        if answer.chosen is None or not answer.proven:
            break
        chosen = origin[answer.chosen]
        for layer in group:
            keep[problem.columns.span(layer)] = False
            keep[chosen[layer]] = True
    return chosen


def _is_only_best(problem: Problem, keep: Mask, chosen: Ints, effort: Effort) -> bool:
    """Return True if every other answer in `keep` is proven worse.

    CP-SAT minimises over the others, which is far easier than to prove that none is as good.
    """
    value, core = problem.goal.of(chosen), problem.only(keep)
    if (core.columns.sizes == 1).all():
        return True
    second = run_cpsat(core.with_rows(core.apart_from(problem.choice(chosen), 1)), effort, at_least=value)
    return second.proven and (second.bound is None or second.bound > value)


def _next_group(problem: Problem) -> list[int]:
    """Return the first undecided layers whose combinations can be numbered up to LARGEST_INDEX; none if all are decided."""
    group: list[int] = []
    size = 1
    for layer, width in enumerate(problem.columns.sizes.tolist()):
        if width > 1:
            if group and size * width > LARGEST_INDEX:
                break
            group.append(layer)
            size *= width
    return group


def _positions(problem: Problem, group: list[int]) -> Ints:
    """Return the weight of each column such that an answer's sum is its number in the canonical order of `group`."""
    values = np.zeros(len(problem.columns), dtype=np.int64)
    weight = 1
    for layer in reversed(group):
        here = problem.columns.span(layer)
        values[here] = weight * problem.columns.rank[here]
        weight *= here.stop - here.start
    return values
