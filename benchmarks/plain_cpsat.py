"""CP-SAT alone on the model that a search exports (`search/NAME.pb`): one worker, default parameters, no tolerated gap; no bound,
no hint and no count of alike layers. The time is that of the solve: the model is there already."""

from __future__ import annotations

import numpy as np

from benchmarks.rivals import Said, cpu_s
from puzzledsl.ir.logic import holds
from puzzledsl.search.cpsat.solve import model_of, solve_interruptibly
from puzzledsl.search.problem.columns import Ints
from puzzledsl.search.problem.instance import Problem


def plain_cpsat(problem: Problem, limit_s: float) -> Said:
    """Its answer, checked. Proven with no value: it says that there is none."""
    from ortools.sat.python.cp_model_helper import CpSolverStatus, SatParameters, SolveWrapper

    model = model_of(problem)
    parameters = SatParameters()
    parameters.num_workers = 1
    parameters.max_time_in_seconds = limit_s
    parameters.absolute_gap_limit = 0.0
    parameters.relative_gap_limit = 0.0
    parameters.catch_sigint_signal = False
    solver = SolveWrapper()
    solver.set_parameters(parameters)
    began = cpu_s()
    response = solve_interruptibly(solver, model)
    spent = cpu_s() - began
    if response.status not in (CpSolverStatus.OPTIMAL, CpSolverStatus.FEASIBLE):
        return Said(spent, None, response.status == CpSolverStatus.INFEASIBLE)
    taken = np.array(list(response.solution)[: len(problem.columns)], dtype=np.int64)
    chosen = taken.nonzero()[0].astype(np.int64)
    value = problem.goal.of(chosen) if meets(problem, chosen) else None
    return Said(spent, value, response.status == CpSolverStatus.OPTIMAL)


def meets(problem: Problem, chosen: Ints) -> bool:
    """Chosen columns are one a layer, number the layers of each run and meet every row and formula, in exact integers."""
    layers = problem.columns.layers
    if len(chosen) != layers or (problem.columns.layer_of[chosen] != np.arange(layers)).any():
        return False
    for row in problem.rows:
        if sum(map(int, row.coefficients[chosen].tolist())) > row.limit:
            return False
    count = 0
    for position in problem.columns.position[chosen].tolist() if problem.columns.period else ():
        count = count % problem.columns.period + 1 if position else 0
        if position != count:
            return False
    model = dict(enumerate(problem.choice(chosen)))
    return all(holds(formula.logic, model) for formula in problem.formulas)
