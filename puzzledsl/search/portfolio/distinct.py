"""Several diverse answers: enumerate all answers up to an objective, and pick greedily those far enough from earlier ones."""

from __future__ import annotations

import numpy as np

from puzzledsl.search.effort import Effort
from puzzledsl.search.label_setting.layout import layout_of
from puzzledsl.search.label_setting.sweep import sweep_all
from puzzledsl.search.lagrangian.bound import Bound, lagrangian_bound
from puzzledsl.search.portfolio.minimise import minimise
from puzzledsl.search.problem.columns import Ints
from puzzledsl.search.problem.instance import Problem, presolve

FIRST_REACH = 0.15  # first reach beyond the best answer, as a share of its distance from the bound
FURTHER = 1.5
MODELS = 3_000_000  # limit on labels, above which the caller searches for one answer after the other


def distinct(problem: Problem, number: int, apart: int, effort: Effort) -> list[Ints] | None:
    """Return up to `number` answers, best first, any two of which differ in at least `apart` layers.

    Each is the best one given those before, and of equally good ones the first in the order of the space. There are fewer only if
    no more exist. None if the problem has no answer, or if the enumeration takes too long or is not possible.
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
    """Pick the first answer, then repeatedly the first one that is far enough from all picked ones.

    `choices[answer][layer]`: rank of the layer's choice, equal for columns with the same meaning.
    """
    picked: list[Ints] = []
    left = np.arange(len(answers))
    while len(left) and len(picked) < number:
        first = left[0]
        picked.append(answers[first])
        far = (choices[left] != choices[first]).sum(axis=1) >= apart
        left = left[far]
    return picked
