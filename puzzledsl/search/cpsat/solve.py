"""One CP-SAT solve: build the model of a problem, solve it, and read the answer back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from puzzledsl.search.cpsat.constraints import (
    add_counts,
    add_hint,
    add_limit,
    add_one_column_a_layer,
    add_runs,
    minimise,
    new_choices,
    new_counts,
)
from puzzledsl.search.cpsat.formulas import FormulaWriter
from puzzledsl.search.effort import Effort
from puzzledsl.search.problem.columns import Ints
from puzzledsl.search.problem.instance import Problem
from puzzledsl.search.problem.symmetry import Symmetry, symmetry_of

if TYPE_CHECKING:
    from ortools.sat.python.cp_model_helper import CpModelProto, CpSolverResponse, SatParameters, SolveWrapper

LARGEST_GOAL = 2**62


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """Result of a CP-SAT solve. `chosen`: a column for each layer, or None. `bound`: lower bound on the sum.

    `proven`: the answer is optimal within the gap, or, without an answer, none exists.
    """

    chosen: Ints | None
    bound: int | None
    proven: bool


def model_of(problem: Problem, *, named: bool = True) -> CpModelProto:
    """Build the CP-SAT model of a problem. Variable i is column i; `named` gives it a readable name."""
    from ortools.sat.python.cp_model_helper import CpModelProto

    model = CpModelProto()
    model.name = problem.name
    choices = new_choices(model, problem.columns, named=named)
    add_one_column_a_layer(model, problem.columns, choices)
    add_runs(model, problem.columns, choices)
    for row in problem.rows:
        add_limit(model, choices, row.coefficients, limit=row.limit, name=row.name)
    pool, formulas = problem.normal
    writer = FormulaWriter(model, pool, problem.columns, choices)
    for number, formula in zip(formulas, problem.formulas, strict=True):
        writer.add(number, formula.name)
    minimise(model, choices, problem.goal.values, offset=problem.goal.offset())
    return model


def counting_model(problem: Problem, symmetry: Symmetry) -> CpModelProto:
    """Build the model with symmetric layers aggregated.

    Its variables are a count for each useful tuple of choices of interchangeable layers, then a Boolean for each column of the
    other layers.
    """
    from ortools.sat.python.cp_model_helper import CpModelProto

    model = CpModelProto()
    model.name = problem.name
    variables: list[int] = []
    figures: list[Ints] = []
    for members in symmetry.classes:
        counts = new_counts(model, len(members.useful), most=len(members.units))
        add_counts(model, counts, total=len(members.units))
        variables += counts
        figures.append(members.units[0].figures[members.useful].T)
    choices = new_choices(model, problem.columns, symmetry.loose_layers, named=False)
    add_one_column_a_layer(model, problem.columns, choices, symmetry.loose_layers)
    pool, formulas = problem.normal
    writer = FormulaWriter(model, pool, problem.columns, choices)
    for number, formula in zip(formulas, problem.formulas, strict=True):
        if number in symmetry.loose_formulas:
            writer.add(number, formula.name)
    loose = symmetry.loose_columns(problem)
    variables += [choices[i] for i in loose]
    figures.append(np.vstack([problem.goal.values, problem.matrix])[:, loose])
    goal, *rows = np.hstack(figures)
    for row, coefficients in zip(problem.rows, rows, strict=True):
        add_limit(model, variables, coefficients, limit=row.limit, name=row.name)
    minimise(model, variables, goal, offset=problem.goal.offset())
    return model


def run_cpsat(
    problem: Problem,
    effort: Effort,
    hint: Ints | None = None,
    at_least: int | None = None,
    at_most: int | None = None,
) -> Answer:
    """Solve a problem. `hint`: columns of an answer to start from, one for each layer.

    `at_least`: a proven lower bound on the sum. `at_most`: consider only answers up to this sum. With one worker the result is
    deterministic for a seed. No answer has a sum above LARGEST_GOAL, so a larger `at_least` proves that there is none.
    """
    from ortools.sat.python.cp_model_helper import CpSolverStatus, SolveWrapper

    if effort.left_s <= 0:
        return Answer(None, None, False)
    least = -LARGEST_GOAL if at_least is None else max(at_least, -LARGEST_GOAL)
    most = LARGEST_GOAL if at_most is None else min(at_most, LARGEST_GOAL)
    if least > most:
        return Answer(None, None, True)
    symmetry = symmetry_of(problem)
    model = model_of(problem, named=False) if symmetry is None else counting_model(problem, symmetry)
    if hint is not None and symmetry is None:
        add_hint(model, hint, len(problem.columns))
    if at_least is not None or at_most is not None:
        model.objective.domain.extend([least, most])
    solver = SolveWrapper()
    solver.set_parameters(parameters_of(effort))
    response = solve_interruptibly(solver, model)
    if response.status == CpSolverStatus.INFEASIBLE:
        return Answer(None, None, True)
    if response.status not in (CpSolverStatus.OPTIMAL, CpSolverStatus.FEASIBLE):
        return Answer(None, None, False)
    chosen = _read(problem, symmetry, list(response.solution))
    bound = int(response.inner_objective_lower_bound) if problem.goal.values.any() else 0
    return Answer(chosen, bound, response.status == CpSolverStatus.OPTIMAL)


def solve_interruptibly(solver: SolveWrapper, model: CpModelProto) -> CpSolverResponse:
    """Solve in a thread, so that Ctrl-C reaches Python immediately; CP-SAT is then stopped before the exception propagates."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:
        solved = pool.submit(solver.solve, model)
        try:
            response: CpSolverResponse = solved.result()
            return response
        except BaseException:
            solver.stop_search()
            raise


def parameters_of(effort: Effort) -> SatParameters:
    """Return CP-SAT's parameters for an effort."""
    from ortools.sat.python.cp_model_helper import SatParameters

    parameters = SatParameters()
    parameters.num_workers = effort.workers
    parameters.random_seed = effort.seed
    parameters.max_time_in_seconds = effort.left_s
    parameters.relative_gap_limit = effort.gap
    parameters.absolute_gap_limit = 0.0
    # OR-Tools' own handler would leave the default handler in place, so the next Ctrl-C would kill the process
    parameters.catch_sigint_signal = False
    if effort.work is not None:
        parameters.max_deterministic_time = effort.work
    return parameters


def _read(problem: Problem, symmetry: Symmetry | None, values: list[int]) -> Ints:
    """Return the chosen columns, ascending, from the variables' values in a solution of `model_of` or `counting_model`."""
    if symmetry is None:
        return np.array(values[: len(problem.columns)], dtype=np.int64).nonzero()[0].astype(np.int64)
    parts, place = [], 0
    for members in symmetry.classes:
        parts.append(members.chosen(values[place : place + len(members.useful)]))
        place += len(members.useful)
    loose = symmetry.loose_columns(problem)
    taken = np.array(values[place : place + len(loose)], dtype=np.bool_)
    return np.sort(np.concatenate([*parts, loose[taken]]))
