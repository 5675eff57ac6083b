"""Presolve: a problem without the columns that its formulas rule out, with the decision diagram of its formulas."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from puzzledsl.search.diagram import diagram_of, live_columns
from puzzledsl.search.instance import Ints, Problem
from puzzledsl.search.truths import open_columns


@dataclass(frozen=True, slots=True, eq=False)
class Presolved:
    """The smaller problem; `origin[column]`: the column of the problem that was given."""

    problem: Problem
    origin: Ints


def presolve(problem: Problem) -> Presolved | None:
    """The problem on the columns that some choice meets all formulas with; None where no choice does."""
    kept = open_columns(problem)
    if kept is None:
        return None
    origin = kept.nonzero()[0].astype(np.int64)
    problem = problem.only(kept)
    if not problem.formulas:
        return Presolved(problem, origin)
    if problem.diagram is None:
        problem = replace(problem, diagram=diagram_of(problem.columns, problem.formulas))
    diagram = problem.diagram
    if diagram is None or not diagram.feasible:
        return None
    live = live_columns(problem.columns, diagram)
    return Presolved(problem.only(live), origin[live])
