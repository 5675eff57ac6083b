"""CP-SAT on a problem: one solve, and the canonical answer, which is the lexicographically first of all best ones."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from puzzledsl.search.cpsat.model import ModelWriter, alike_layers
from puzzledsl.search.effort import Effort
from puzzledsl.search.lagrangian.bound import Bound
from puzzledsl.search.problem.columns import Ints
from puzzledsl.search.problem.instance import Outcome, Problem, Row

if TYPE_CHECKING:
    from ortools.sat.python.cp_model_helper import CpModelProto, CpSolverResponse, SatParameters, SolveWrapper

LARGEST_GOAL = 2**62
WORK = 30.0  # CP-SAT's deterministic seconds for one of these numbers
LARGEST_PLACE = 2**50  # limit on the number that encodes columns of several layers in the canonical order


def run_cpsat(
    problem: Problem,
    effort: Effort,
    hint: Ints | None = None,
    at_least: int | None = None,
    at_most: int | None = None,
) -> Outcome:
    """Solve a problem. `hint`: columns of an answer to start from, one for each layer.

    `at_least`: a proven lower bound on the sum. `at_most`: consider only answers up to this sum. With one worker the result is
    deterministic for a seed. No answer has a sum above LARGEST_GOAL, so a larger `at_least` proves that there is none.
    """
    if effort.left_s <= 0:
        return Outcome()
    least = -LARGEST_GOAL if at_least is None else max(at_least, -LARGEST_GOAL)
    most = LARGEST_GOAL if at_most is None else min(at_most, LARGEST_GOAL)
    if least > most:
        return Outcome(proven=True)
    writer = ModelWriter(problem, alike_layers(problem))
    if at_least is not None or at_most is not None:
        writer.model.objective.domain.extend([least, most])
    return solve_written(writer, problem, effort, None if writer.alike else hint)


def solve_written(writer: ModelWriter, problem: Problem, effort: Effort, hint: Ints | None) -> Outcome:
    """Solve the model of a problem, which may have more limits than the problem."""
    from ortools.sat.python.cp_model_helper import CpSolverStatus, SolveWrapper

    if hint is not None:
        hinted = np.isin(np.arange(len(problem.columns)), hint).astype(np.int64)
        writer.model.clear_solution_hint()
        writer.model.solution_hint.vars.extend(range(len(hinted)))
        writer.model.solution_hint.values.extend(hinted.tolist())
    solver = SolveWrapper()
    solver.set_parameters(parameters_of(effort))
    response = solve_interruptibly(solver, writer.model)
    if response.status == CpSolverStatus.INFEASIBLE:
        return Outcome(proven=True)
    if response.status not in (CpSolverStatus.OPTIMAL, CpSolverStatus.FEASIBLE):
        return Outcome()
    bound = int(response.inner_objective_lower_bound) if problem.goal.values.any() else 0
    chosen, proven = writer.read([*response.solution]), response.status == CpSolverStatus.OPTIMAL
    return Outcome(chosen, problem.goal.of(chosen), bound, proven)


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


def canonical_answer(problem: Problem, bound: Bound, chosen: Ints, effort: Effort) -> Ints:
    """Return the best answer that comes first in the order of the space, from any best one, as far as time allows."""
    value, effort = problem.goal.of(chosen), replace(effort, gap=0.0, work=WORK)
    keep = bound.within(value)
    origin, core = keep.nonzero()[0], problem.only(keep)
    others = core.with_rows(core.apart_from(problem.choice(chosen), 1))
    if len(core.columns) == core.columns.layers:
        return chosen
    if not core.is_coarse and run_cpsat(others, effort, at_least=value, at_most=value).infeasible:
        return chosen
    core = core.with_rows(Row("goal", core.goal.values, value))
    chosen, words = np.searchsorted(origin, chosen), core.columns.places(LARGEST_PLACE)
    writer = ModelWriter(core)
    for word in words:
        writer.aim(word)
        answer = solve_written(writer, core, effort, chosen)
        if answer.chosen is None or not answer.proven:
            break
        chosen = answer.chosen
        for column in np.flatnonzero(word != word[chosen][core.columns.layer_of]).tolist():
            writer.model.variables[column].domain[1] = 0
    return origin[chosen]
