"""Other solvers on the same integer problem, at their tightest settings and on one thread. Times are CPU seconds, from the arrays
of the problem to the answer."""

from __future__ import annotations

import resource
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from puzzledsl.search.cpsat.solve import run_cpsat
from puzzledsl.search.problem.columns import Ints
from puzzledsl.search.problem.instance import Effort, Problem


@dataclass(frozen=True, slots=True)
class Said:
    """Answer of a solver: `value` is recomputed from its choice, in exact integers; None where it has none or breaks a row.

    `proven`: it calls its answer optimal (which is not always true).
    """

    seconds: float
    value: int | None
    proven: bool


def cpu_s() -> float:
    """CPU seconds of this process and of those it has waited for."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def highs(problem: Problem, limit_s: float) -> Said:
    """HiGHS through highspy: no gap is tolerated."""
    import highspy

    solver = highspy.Highs()
    for option, value in {
        "output_flag": False, "threads": 1, "time_limit": limit_s, "mip_rel_gap": 0.0, "mip_abs_gap": 0.0,
        "mip_feasibility_tolerance": 1e-9, "primal_feasibility_tolerance": 1e-9,
    }.items():  # fmt: skip
        solver.setOptionValue(option, value)
    began = cpu_s()
    cost, rows, limits = _scaled(problem)
    layers, columns = problem.columns.layers, len(problem.columns)
    model = highspy.HighsLp()
    model.num_col_, model.num_row_ = columns, layers + len(rows)
    model.col_cost_, model.col_lower_, model.col_upper_ = cost, np.zeros(columns), np.ones(columns)
    model.row_lower_ = np.concatenate([np.ones(layers), np.full(len(rows), -highspy.kHighsInf)])
    model.row_upper_ = np.concatenate([np.ones(layers), limits])
    dense = np.vstack([np.ones(columns), rows])
    places = np.vstack([problem.columns.layer_of, *(np.full(columns, layers + i) for i in range(len(rows)))])
    used = dense.T != 0
    model.a_matrix_.format_ = highspy.MatrixFormat.kColwise
    model.a_matrix_.start_ = np.concatenate([[0], np.cumsum(used.sum(axis=1))])
    model.a_matrix_.index_, model.a_matrix_.value_ = places.T[used], dense.T[used]
    model.integrality_ = [highspy.HighsVarType.kInteger] * columns
    solver.passModel(model)
    solver.run()
    spent = cpu_s() - began
    proven = solver.getModelStatus() == highspy.HighsModelStatus.kOptimal
    return Said(spent, _value(problem, np.array(solver.getSolution().col_value)), proven)


def cbc(problem: Problem, limit_s: float) -> Said:
    """CBC through PuLP, as its users call it: no gap is tolerated."""
    import pulp  # type: ignore[import-untyped]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # PuLP's of what PuLP 4 will call otherwise
        return _cbc(pulp, problem, limit_s)


def _cbc(pulp: Any, problem: Problem, limit_s: float) -> Said:
    began = cpu_s()
    cost, rows, limits = _scaled(problem)
    model = pulp.LpProblem("search", pulp.LpMinimize)
    variables = [pulp.LpVariable(f"x{i}", cat="Binary") for i in range(len(cost))]
    model += pulp.LpAffineExpression(zip(variables, cost.tolist(), strict=True))
    start = problem.columns.start.tolist()
    for begin, end in pairwise(start):
        model += pulp.lpSum(variables[begin:end]) == 1
    for row, limit in zip(rows.tolist(), limits.tolist(), strict=True):
        model += pulp.LpAffineExpression(zip(variables, row, strict=True)) <= limit
    model.solve(pulp.PULP_CBC_CMD(msg=False, gapRel=0, gapAbs=0, timeLimit=limit_s, threads=1))
    spent = cpu_s() - began
    taken = np.array([v.value() or 0.0 for v in variables])
    return Said(spent, _value(problem, taken), pulp.LpStatus[model.status] == "Optimal")


def cpsat(problem: Problem, limit_s: float) -> Said:
    """CP-SAT on the whole problem, with no bound and no core of ours."""
    began = cpu_s()
    answer = run_cpsat(problem, Effort.of(limit_s))
    spent = cpu_s() - began
    return Said(spent, None if answer.chosen is None else problem.goal.of(answer.chosen), answer.proven)


RIVALS: dict[str, Callable[[Problem, float], Said]] = {"highs": highs, "cbc": cbc, "cpsat": cpsat}


def _scaled(problem: Problem) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """The goal in its own units, and rows whose largest coefficient is 1: what a careful user would pass."""
    tops = np.maximum(np.abs(problem.matrix).max(axis=1, initial=0), 1)
    cost = problem.goal.values.astype(np.float64) * float(problem.goal.unit)
    rows, limits = (each.astype(np.float64) for each in (problem.matrix, problem.limits))
    return cost, rows / tops[:, None], limits / tops


def _value(problem: Problem, taken: NDArray[np.float64]) -> int | None:
    if len(taken) != len(problem.columns):
        return None
    start = problem.columns.start.tolist()
    chosen: Ints = np.array([b + int(np.argmax(taken[b:e])) for b, e in pairwise(start)], dtype=np.int64)
    met = bool((problem.matrix[:, chosen].sum(axis=1) <= problem.limits).all())
    return problem.goal.of(chosen) if met else None
