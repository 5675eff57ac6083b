"""Presolve: a problem without the columns that its formulas rule out, with the decision diagram of its formulas."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import inf

import numpy as np

from puzzledsl.search.diagram import Diagram, diagram_of, live_columns
from puzzledsl.search.instance import Ints, Problem
from puzzledsl.search.truths import open_columns


@dataclass(frozen=True, slots=True, eq=False)
class Presolved:
    """The smaller problem; `origin[column]`: the column of the problem that was given."""

    problem: Problem
    origin: Ints


def is_unfinished(diagram: Diagram | None) -> bool:
    """True where more time may find a diagram, or one of more formulas."""
    return diagram is None or diagram.hurried


def presolve(problem: Problem, quick: bool = False, deadline: float = inf) -> Presolved | None:
    """The problem on the columns that some choice meets all formulas with; None where no choice does.

    With `quick` it has no diagram where a small one is not found, nor where none is found before the deadline; or one of runs of
    dropped layers alone, where those are scored.
    """
    origin = np.arange(len(problem.columns))
    if not problem.formulas and not problem.columns.period:
        return Presolved(problem, origin)
    diagram = problem.diagram
    if (is_unfinished(diagram) and not quick) or (diagram is None and not problem.is_large):
        diagram = diagram_of(problem.columns, problem.formulas, quick, deadline)
    open_ = problem.formulas
    if diagram is not None:
        if not diagram.feasible:
            return None
        problem = replace(problem, diagram=diagram)
        live = live_columns(problem.columns, diagram)
        problem, origin = problem.only(live), origin[live]
        open_ = tuple(f for place, f in enumerate(problem.formulas) if place not in diagram.covered)
    kept = open_columns(replace(problem, formulas=open_))
    return None if kept is None else Presolved(problem.only(kept), origin[kept])
