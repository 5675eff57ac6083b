"""A model of eighty layers with 54 choices each, to the proven optimum."""

from __future__ import annotations

from fractions import Fraction

import pytest

from benchmarks.problems import build_problem
from benchmarks.synthetic import synthetic
from puzzledsl.ir.nodes import CpSat
from puzzledsl.search.cpsat.solve import run_cpsat
from puzzledsl.search.problem.instance import Effort
from puzzledsl.search.solve import solve_search


@pytest.mark.parametrize("seed", [0, 1])
def test_the_core_has_the_optimum_of_the_whole(seed: int) -> None:
    """The whole problem given to CP-SAT, with no bound and no core, has the same optimum."""
    program, costs, scores = synthetic(seed=seed, layers=24)
    result = solve_search(program, "best", costs, scores)
    problem = build_problem(program, "best", costs, scores)
    whole = run_cpsat(problem, Effort.of(60))
    assert result.status == "optimal"
    assert whole.proven and whole.chosen is not None and result.bound is not None
    bound = problem.goal.in_units(problem.goal.of(whole.chosen))
    assert bound is not None
    assert result.bound == float(bound)


def test_eighty_layers_are_solved_to_the_optimum_in_seconds() -> None:
    program, costs, scores = synthetic(seed=5, speedup=Fraction(2))
    search = program.searches["best"].model_copy(
        update={"solver": CpSat(time_s=Fraction(30)), "solutions": 3, "apart": 3}
    )
    program = program.model_copy(update={"searches": {"best": search}})
    result = solve_search(program, "best", costs, scores)
    assert result.status == "optimal"
    assert result.gap is not None and result.gap < 1e-12
    objectives = [s.objective for s in result.solutions]
    assert len(objectives) == 3 and objectives == sorted(objectives)


def test_a_time_limit_still_leaves_an_answer_with_its_bound() -> None:
    program, costs, scores = synthetic(seed=5)
    search = program.searches["best"].model_copy(update={"solver": CpSat(time_s=Fraction(1, 1000))})
    program = program.model_copy(update={"searches": {"best": search}})
    result = solve_search(program, "best", costs, scores)
    assert result.status == "feasible"
    assert result.objective is not None and result.bound is not None and result.gap is not None
    assert result.bound < result.objective
    assert 0 < result.gap < 0.01
