"""Several answers that differ: every answer up to some goal, of which each is taken that is far enough from those before."""

from __future__ import annotations

import numpy as np

from puzzledsl.search.bound import Bound, lagrangian_bound
from puzzledsl.search.core import minimise
from puzzledsl.search.cpsat import Effort
from puzzledsl.search.instance import Ints, Problem
from puzzledsl.search.layered import sweep_all
from puzzledsl.search.layout import layout_of
from puzzledsl.search.presolve import presolve

FIRST_REACH = 0.15  # of the way from the bound to the best answer: how far beyond that is searched first
FURTHER = 1.5
MODELS = 3_000_000  # more are not worth it: then the answers are sought one after the other


def distinct(problem: Problem, number: int, apart: int, effort: Effort) -> list[Ints] | None:
    """Up to `number` answers, best first, any two of which differ in `apart` layers or more; each is the best given those before,
    the first of those in the order of the space. Fewer where there are no more. None where that takes too long this way.
    """
    presolved = presolve(problem, quick=True)
    if presolved is None:
        return None
    problem, origin = presolved.problem, presolved.origin
    bound = lagrangian_bound(problem)
    best = minimise(problem, effort, bound=bound)
    if not best.proven or best.value is None or best.value != best.bound:
        return None
    top = int(problem.columns.most(problem.goal.values).sum())
    reach, left = (best.value - bound.value) * FIRST_REACH, MODELS
    while True:
        most = min(top, best.value + int(reach))
        answers = _all_up_to(problem, bound, most, left, effort)
        if answers is None:
            return None
        picked = _pick(answers, problem.columns.rank[answers], number, apart)
        if len(picked) == number or most == top:
            return [origin[answer] for answer in picked]
        reach = reach * FURTHER + 1


def _all_up_to(problem: Problem, bound: Bound, most: int, work: int, effort: Effort) -> Ints | None:
    keep = bound.within(most)
    layout = layout_of(problem.only(keep), bound, most)
    if layout is None:
        return None
    answers = sweep_all(layout, most, work=work, deadline=effort.deadline)
    return None if answers is None else keep.nonzero()[0][answers].astype(np.int64)


def _pick(answers: Ints, choices: Ints, number: int, apart: int) -> list[Ints]:
    """The first answer, then each first one that is far enough from those before. `choices`: of columns of one meaning, alike."""
    picked: list[Ints] = []
    left = np.arange(len(answers))
    while len(left) and len(picked) < number:
        first = left[0]
        picked.append(answers[first])
        far = (choices[left] != choices[first]).sum(axis=1) >= apart
        left = left[far]
    return picked
