"""Case by case: the same answer as trying all models, whatever the limit on the number of kinds of layers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from puzzledsl.ir.nodes import Distinct, Taken
from puzzledsl.search.lagrangian.bound import lagrangian_bound
from puzzledsl.search.portfolio import minimise
from puzzledsl.search.portfolio.branching import Ledger
from puzzledsl.search.problem.instance import Effort, Outcome, Problem
from puzzledsl.search.problem.normal_form import Formula
from tests.search.random_problems import FAMILIES, every_answer, random_problem


def with_few_kinds(problem: Problem, most: int) -> Problem:
    """The problem with at most so many different attentions."""
    names = tuple(sorted({choice.attention for choice in problem.columns.choices}))
    taken = Taken(
        attention=names,
        ffn=(),
        values=tuple((name,) for name in names),
        layers=tuple(range(problem.columns.layers)),
    )
    return replace(problem, formulas=(Formula("few", Distinct(taken=(taken,), at_most=most)),))


def solved(problem: Problem) -> tuple[Outcome, int] | None:
    """The outcome case by case, and the number of cases solved; None if there are no cases."""
    found, number = minimise.cases_of(problem), 0
    if found is None:
        return None
    bound = lagrangian_bound(problem)
    ledger = Ledger(problem, bound, Effort.of(60), bound.value, None)

    def of_case(part: Problem, bound: object, most: int) -> Outcome:
        nonlocal number
        number += 1
        return minimise.minimise(part, Effort.of(60), at_most=most)

    proven = minimise.by_cases(ledger, found, of_case)
    return ledger.outcome(proven, minimise.CASES), number


@pytest.mark.parametrize("family", FAMILIES)
def test_the_minimum_is_that_of_all_models(family: str) -> None:
    seen = 0
    for seed in range(12):
        for most in (1, 2, 3):
            problem = with_few_kinds(random_problem(family, seed), most)
            outcome = solved(problem)
            if outcome is None:
                continue
            seen += 1
            found, _ = outcome
            answers = every_answer(problem)
            answers = answers[problem.meeting_formulas(answers)] if len(answers) else answers
            assert found.proven, (seed, most)
            if not len(answers):
                assert found.chosen is None, (seed, most)
                continue
            values = problem.goal.values[answers].sum(axis=1)
            assert found.chosen is not None
            assert found.value == found.bound == values.min(), (seed, most)
            assert found.chosen.tolist() == answers[int(np.argmin(values))].tolist(), (seed, most)
    assert seen >= 10


def test_statements_that_share_choices_give_no_cases() -> None:
    problem = with_few_kinds(random_problem("roomy", 1), 2)
    logic = problem.formulas[0].logic
    assert isinstance(logic, Distinct)
    [own] = logic.taken
    halves = tuple(("even" if i % 2 else "odd",) for i in range(len(own.attention)))
    both = logic.model_copy(update={"taken": (own, own.model_copy(update={"values": halves}))})
    assert minimise.cases_of(replace(problem, formulas=(Formula("few", both),))) is None
