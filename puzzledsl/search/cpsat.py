"""One CP-SAT solve: build the model of a problem, run it with one worker, read the answer back."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
from ortools.sat.python.cp_model_helper import (
    CpModelProto,
    CpSolverStatus,
    SatParameters,
    SolveWrapper,
)

from puzzledsl.search.constraints import (
    add_formula,
    add_limit,
    add_one_column_a_layer,
    minimise,
    new_choices,
)
from puzzledsl.search.instance import Ints, Problem


@dataclass(frozen=True, slots=True)
class Effort:
    """How long and how exactly to solve. `deadline` is on the monotonic clock; `gap` is relative."""

    deadline: float
    gap: float = 0.0
    seed: int = 0
    workers: int = 1

    @classmethod
    def of(cls, time_s: float, gap: float = 0.0, seed: int = 0, workers: int = 1) -> Effort:
        """An effort that starts now."""
        return cls(time.monotonic() + time_s, gap, seed, workers)

    @property
    def left_s(self) -> float:
        """Seconds until the deadline."""
        return self.deadline - time.monotonic()


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """What CP-SAT says. `proven`: the answer is within the gap, or there is none. `bound` is on the sum."""

    chosen: Ints | None
    bound: int | None
    proven: bool


def model_of(problem: Problem) -> CpModelProto:
    """The CP-SAT model of a problem: variable i is column i."""
    model = CpModelProto()
    model.name = problem.name
    choices = new_choices(model, problem.columns)
    add_one_column_a_layer(model, problem.columns, choices)
    for row in problem.rows:
        add_limit(model, choices, row.coefficients, limit=row.limit, name=row.name)
    for formula in problem.formulas:
        add_formula(model, problem.columns, choices, formula.logic, name=formula.name)
    minimise(model, choices, problem.goal)
    return model


def run_cpsat(problem: Problem, effort: Effort, hint: Ints | None = None) -> Answer:
    """Solve a problem. One worker is deterministic for a seed."""
    if effort.left_s <= 0:
        return Answer(None, None, False)
    model = model_of(problem)
    if hint is not None:
        here = np.zeros(len(problem.columns.choices), dtype=np.int64)
        here[hint] = 1
        model.solution_hint.vars.extend(range(len(here)))
        model.solution_hint.values.extend(here.tolist())
    parameters = SatParameters()
    parameters.num_workers = effort.workers
    parameters.random_seed = effort.seed
    parameters.max_time_in_seconds = effort.left_s
    parameters.relative_gap_limit = effort.gap
    parameters.absolute_gap_limit = 0.0
    solver = SolveWrapper()
    solver.set_parameters(parameters)
    response = solver.solve(model)  # type: ignore[no-untyped-call]
    if response.status == CpSolverStatus.INFEASIBLE:
        return Answer(None, None, True)
    if response.status not in (CpSolverStatus.OPTIMAL, CpSolverStatus.FEASIBLE):
        return Answer(None, None, False)
    values = np.array(list(response.solution)[: len(problem.columns.choices)], dtype=np.int64)
    proven = response.status == CpSolverStatus.OPTIMAL
    chosen = values.nonzero()[0].astype(np.int64)
    has_goal = bool(problem.goal.values.any())
    return Answer(chosen, int(response.inner_objective_lower_bound) if has_goal else 0, proven)
