"""Presolve: decision diagram of a problem's formulas, and removal of the columns that they rule out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import inf

import numpy as np

from puzzledsl.search.problem.columns import Ints
from puzzledsl.search.problem.diagram import Diagram, diagram_of, live_columns
from puzzledsl.search.problem.instance import Problem
from puzzledsl.search.problem.residuals import FALSE


@dataclass(frozen=True, slots=True, eq=False)
class Presolved:
    """The smaller problem. `origin[column]`: the column's number in the given problem."""

    problem: Problem
    origin: Ints


def is_unfinished(diagram: Diagram | None) -> bool:
    """True if more time may give a diagram, or one that covers more formulas."""
    return diagram is None or diagram.hurried


def presolve(problem: Problem, quick: bool = False, deadline: float = inf) -> Presolved | None:
    """Return the problem without columns that the formulas rule out; None if the formulas are unsatisfiable.

    The problem has no diagram (or one of runs of dropped layers only) if none is found before the deadline or, with `quick`, no
    small one.
    """
    origin = np.arange(len(problem.columns))
    if not problem.formulas and not problem.columns.period:
        return Presolved(problem, origin)
    diagram = problem.diagram
    if (is_unfinished(diagram) and not quick) or (diagram is None and not problem.is_large):
        diagram = diagram_of(problem.columns, problem.formulas, quick, deadline)
    if diagram is None:
        return None if FALSE in problem.normal[1] else Presolved(problem, origin)
    if not diagram.feasible:
        return None
    if diagram is not problem.diagram:
        problem = replace(problem, diagram=diagram)
    live = live_columns(problem.columns, diagram)
    return Presolved(problem.only(live), origin[live])
