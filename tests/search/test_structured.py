"""On small problems with rows and structural formulas, the minimum is that of all models, and the first of those."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from puzzledsl.search.portfolio.minimise import minimise
from puzzledsl.search.problem.instance import Effort
from tests.search.structured import FIGURES, answers_of, structured_problem

EACH = 40  # problems of each family of figures


@pytest.mark.parametrize("figures", FIGURES)
def test_the_minimum_is_that_of_all_models(figures: str) -> None:
    solvable = decided = 0
    for seed in range(EACH):
        problem = structured_problem(figures, seed)
        answers, found = answers_of(problem), minimise(problem, Effort.of(60.0))
        solvable += bool(len(answers))
        decided += len(answers) < len(answers_of(replace(problem, formulas=())))
        assert found.proven and (found.chosen is None) == (not len(answers)), seed
        if found.chosen is not None:
            values = problem.goal.values[answers].sum(axis=1)
            assert found.value == found.bound == values.min(), seed
            assert found.chosen.tolist() == answers[int(np.argmin(values))].tolist(), seed
    assert solvable > EACH // 3 and decided > EACH // 3
