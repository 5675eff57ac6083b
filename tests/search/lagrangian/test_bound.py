"""The Lagrangian bound is a bound, in exact integers, and so is every slack."""

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.problems import build_problems
from puzzledsl.search.lagrangian.bound import certify, lagrangian_bound
from puzzledsl.search.portfolio.minimise import find_incumbent
from puzzledsl.search.problem.instance import Problem
from puzzledsl.search.tables import tables_of
from tests.oracles import all_children
from tests.search.instances import Instance, problems, quick


def check(instance: Instance, problem: Problem, bound: Any) -> None:
    children = [c for c in all_children(tables_of(*instance.args)) if c.batches == problem.batches]
    answers = [problem.indices(child.layers) for child in children]
    found = [c for c in answers if c is not None and problem.is_feasible(c)]
    if bound.infeasible:
        assert not found
    for chosen in found:
        value = problem.goal.of(chosen)
        assert bound.value <= value
        assert all(bound.exact + int(s) <= value * bound.scale for s in bound.slack[chosen])
        assert bound.within(value)[chosen].all()


@quick(25)
@given(problems())
def test_no_answer_is_below_the_bound_or_its_slacks_and_an_incumbent_is_one(instance: Instance) -> None:
    for problem in build_problems(*instance.args):
        bound = lagrangian_bound(problem)
        check(instance, problem, bound)
        chosen = find_incumbent(problem, bound)
        assert chosen is None or problem.is_feasible(chosen)


@quick(25)
@given(problems(), st.lists(st.floats(0, 1e12), min_size=12, max_size=12))
def test_any_prices_give_a_bound(instance: Instance, prices: list[float]) -> None:
    problem = build_problems(*instance.args)[0]
    check(instance, problem, certify(problem, np.array(prices[: len(problem.rows)])))
