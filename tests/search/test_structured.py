"""On hundreds of small problems with rows and structural formulas: the minimum is that of all models, and the first of those."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from benchmarks.plain_cpsat import meets, plain_cpsat
from puzzledsl.search.effort import Effort
from puzzledsl.search.portfolio.minimise import minimise
from tests.search.structured import (
    FIGURES,
    MOST_MODELS,
    answers_of,
    model_count,
    structured_problem,
)

EACH = 80  # problems of each family of figures
LIMIT_S = 60.0


@pytest.mark.parametrize("figures", FIGURES)
def test_the_minimum_is_that_of_all_models(figures: str) -> None:
    for seed in range(EACH):
        problem = structured_problem(figures, seed)
        answers = answers_of(problem)
        found = minimise(problem, Effort.of(LIMIT_S))
        assert found.proven, seed
        if not len(answers):
            assert found.chosen is None, seed
            continue
        values = problem.goal.values[answers].sum(axis=1)
        assert found.chosen is not None, seed
        assert found.value == found.bound == values.min(), seed
        assert found.chosen.tolist() == answers[int(np.argmin(values))].tolist(), seed


def test_most_problems_have_an_answer_and_structure_decides_it() -> None:
    solvable = decided = 0
    for figures in FIGURES:
        for seed in range(EACH // 4):
            problem = structured_problem(figures, seed)
            assert model_count(problem) <= MOST_MODELS
            solvable += bool(len(answers_of(problem)))
            decided += len(answers_of(problem)) < len(answers_of(replace(problem, formulas=())))
    every = len(FIGURES) * (EACH // 4)
    assert solvable > every // 2
    assert decided > every // 2


@pytest.mark.parametrize("figures", FIGURES)
def test_the_exported_model_has_the_same_minimum(figures: str) -> None:
    for seed in range(EACH // 4):
        problem = structured_problem(figures, seed)
        answers, said = answers_of(problem), plain_cpsat(problem, LIMIT_S)
        values = problem.goal.values[answers].sum(axis=1)
        assert said.proven, seed
        assert said.value == (int(values.min()) if len(answers) else None), seed


def test_the_check_of_an_answer_is_exact() -> None:
    for seed in range(EACH // 4):
        problem = structured_problem("unrelated", seed)
        answers = {tuple(a) for a in answers_of(problem).tolist()}
        rng = np.random.default_rng(seed)
        spans = list(pairwise(problem.columns.start.tolist()))
        for _ in range(20):
            chosen = np.array([rng.integers(begin, end) for begin, end in spans])
            assert meets(problem, chosen) == (tuple(chosen.tolist()) in answers)
