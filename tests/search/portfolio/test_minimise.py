"""On hundreds of small problems of every family: the minimum is the one that trying all models finds, and the first of those."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from benchmarks.problems import build_problem
from benchmarks.synthetic import synthetic
from puzzledsl.search.cpsat import solve
from puzzledsl.search.cpsat.solve import run_cpsat
from puzzledsl.search.label_setting import sweep as sweeps
from puzzledsl.search.label_setting.sweep import Index, SuffixTable, sweep_of
from puzzledsl.search.lagrangian.bound import lagrangian_bound
from puzzledsl.search.portfolio.branching import bound_enough, within_gap
from puzzledsl.search.portfolio.minimise import minimise
from puzzledsl.search.problem.columns import Ints
from puzzledsl.search.problem.instance import Effort
from tests.cases import ALL, cases
from tests.search.random_problems import FAMILIES, every_answer, random_problem

pytestmark = pytest.mark.drawn
EACH = cases(40)  # problems of each family


@pytest.mark.parametrize("family", FAMILIES)
def test_the_minimum_is_that_of_all_models(family: str) -> None:
    for seed in range(EACH):
        problem = random_problem(family, seed)
        answers = every_answer(problem)
        found = minimise(problem, Effort.of(60))
        assert found.proven, seed
        if not len(answers):
            assert found.chosen is None, seed
            continue
        values = problem.goal.values[answers].sum(axis=1)
        assert found.chosen is not None
        assert found.value == found.bound == values.min(), seed
        assert found.chosen.tolist() == answers[int(np.argmin(values))].tolist(), seed


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("together", [1, 5])
def test_few_models_at_a_time_end_at_the_same_one(
    family: str, together: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(EACH // 4):
        problem = random_problem(family, seed)
        whole = minimise(problem, Effort.of(60))
        with monkeypatch.context() as patched:
            patched.setattr(sweeps, "TOGETHER", together)
            patched.setattr(sweeps, "MANY", together)
            found = minimise(problem, Effort.of(60))
        assert (found.value, found.proven) == (whole.value, whole.proven)
        assert found.chosen is None or found.chosen.tolist() == list(whole.chosen)  # type: ignore[arg-type]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("most", [2, 10, 1000])
def test_a_model_whose_end_is_looked_up_is_the_same(
    family: str, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the first layer on, however few of the last layers are listed: the first of the best of all models."""
    looked_up = []

    plain = Index.pairs

    def spied(*args: Any) -> Any:
        looked_up.append(args)
        return plain(*args)

    monkeypatch.setattr(sweeps, "FIRST_SUFFIXES", 0)
    monkeypatch.setattr(sweeps, "MORE_SUFFIXES", 1)
    monkeypatch.setattr(
        sweeps,
        "SuffixTable",
        lambda layout, resources, _, deadline: SuffixTable(layout, resources, most, deadline),
    )
    monkeypatch.setattr(Index, "pairs", spied)
    for seed in range(EACH):
        problem = random_problem(family, seed)
        bound, answers = lagrangian_bound(problem), every_answer(problem)
        top = int(problem.columns.most(problem.goal.values).sum())
        if sweep_of(problem, bound, top) is None or not len(answers):
            continue
        values = problem.goal.values[answers].sum(axis=1)
        for limit in (top, int(values.min())):
            sweep = sweep_of(problem, bound, limit)
            assert sweep is not None
            swept = sweep.run()
            assert swept.proven and swept.value == values.min(), seed
            assert swept.chosen is not None
            assert swept.chosen.tolist() == answers[int(np.argmin(values))].tolist(), seed
    assert (
        looked_up or not ALL or most < 1000 or family == "roomy"
    )  # where all rows are roomy, none has a price


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("together", [1, 3])
def test_a_sweep_of_everything_ends_at_the_first_of_the_best(
    family: str, together: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However far above the bound it looks, and whatever it comes upon on the way."""
    monkeypatch.setattr(sweeps, "TOGETHER", together)
    for seed in range(EACH):
        problem = random_problem(family, seed)
        bound, answers = lagrangian_bound(problem), every_answer(problem)
        most = int(problem.columns.most(problem.goal.values).sum())
        sweep = sweep_of(problem, bound, most)
        if sweep is None or not len(answers):
            continue
        values = problem.goal.values[answers].sum(axis=1)
        swept = sweep.run()
        assert swept.proven and swept.value == values.min(), seed
        assert swept.chosen is not None
        assert problem.goal.of(swept.chosen) == swept.value, seed


def test_a_sweep_that_looks_further_ends_at_the_same_answer() -> None:
    """Among half a million models, where good answers are come upon before and after the best one."""
    program, costs, scores = synthetic(80, 6, 9, 9, requirements=3)
    problem = build_problem(program, "best", costs, scores)
    bound = lagrangian_bound(problem)
    best = minimise(problem, Effort.of(60))
    assert best.value is not None and best.proven
    for most in (best.value, best.value + (best.value - bound.value) // 20):
        keep = bound.within(most)
        sweep = sweep_of(problem.only(keep), bound, most)
        assert sweep is not None
        swept = sweep.run()
        assert swept.proven and swept.value == best.value


@pytest.mark.parametrize("family", FAMILIES)
def test_without_sweeps_and_with_several_workers_it_is_the_same(family: str) -> None:
    """CP-SAT alone on the core, of any seed and number of workers, gives the same model."""
    for seed in range(4):
        problem = random_problem(family, seed)
        swept = minimise(problem, Effort.of(60))
        for workers, solver_seed in ((1, 0), (1, 5), (2, 1), (4, 3)):
            effort = replace(Effort.of(60, seed=solver_seed, workers=workers), labels=0)
            asked = minimise(problem, effort)
            assert (asked.value, asked.bound, asked.proven) == (swept.value, swept.bound, swept.proven)
            assert asked.chosen is None or asked.chosen.tolist() == list(swept.chosen)  # type: ignore[arg-type]


@pytest.mark.parametrize("family", FAMILIES)
def test_nothing_up_to_a_limit_is_only_said_where_there_is_nothing(family: str) -> None:
    for seed in range(EACH // 4):
        problem = random_problem(family, seed)
        answers = every_answer(problem)
        values = np.sort(problem.goal.values[answers].sum(axis=1))
        for at_most in (values[:1] - 1).tolist() + values[:1].tolist():
            found = minimise(problem, Effort.of(60), at_most=at_most)
            assert found.proven
            assert (found.chosen is not None) == (at_most >= values[0])


@pytest.mark.parametrize("family", FAMILIES)
def test_cores_alone_settle_whether_there_is_an_answer_up_to_a_limit(family: str) -> None:
    """A limit between what one batch reaches and what another has found is proven by CP-SAT, and not given up."""
    effort = replace(Effort.of(60), labels=0)
    for seed in range(EACH // 4):
        problem = random_problem(family, seed)
        values = problem.goal.values[every_answer(problem)].sum(axis=1)
        top = int(problem.columns.most(problem.goal.values).sum())
        least = int(values.min(initial=top + 1))
        for at_most in sorted({least - 1, least, least + 50, top}):
            found = minimise(problem, effort, at_most=at_most)
            assert found.proven, (seed, at_most)
            assert found.value == (least if least <= min(at_most, top) else None), (seed, at_most)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_sweep_that_is_stopped_has_a_bound(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweeps, "TOGETHER", 2)
    for seed in range(EACH // 2):
        problem = random_problem(family, seed)
        bound, answers = lagrangian_bound(problem), every_answer(problem)
        if bound.infeasible or not len(answers):
            continue
        values = problem.goal.values[answers].sum(axis=1)
        stopped = 0
        for work in (-1, 3, 9, 27):
            sweep = sweep_of(problem, bound, int(values.max()))
            assert sweep is not None
            swept = sweep.run(work)
            stopped += not swept.proven
            if not swept.proven:
                assert swept.bound is not None and swept.bound <= values.min()
                assert swept.value is None or swept.value >= values.min()
        assert stopped or not ALL


@pytest.mark.parametrize("family", FAMILIES)
def test_distinct_answers_are_each_the_best_given_those_before(family: str) -> None:
    for seed in range(EACH // 4):
        problem = random_problem(family, seed)
        answers = every_answer(problem)
        picked: list[Ints] = []
        left_open = problem
        while len(picked) < 4 and (found := minimise(left_open, Effort.of(60))).chosen is not None:
            assert found.proven
            picked.append(found.chosen)
            left_open = left_open.with_rows(problem.apart_from(problem.choice(found.chosen), 2))
        values = problem.goal.values[answers].sum(axis=1)
        left = answers[np.argsort(values, kind="stable")]
        for answer in picked:
            assert answer.tolist() == left[0].tolist()
            left = left[(left != answer).sum(axis=1) >= 2]
        assert len(picked) == 4 or not len(left)


def test_a_bound_that_is_enough_is_within_the_gap_and_none_below_is() -> None:
    goal = random_problem(FAMILIES[0], 0).goal
    for value in (10_000, 123_456):
        for gap in (1e-3, 0.2):
            least = bound_enough(goal, value, 0, gap)
            assert within_gap(goal, value, least, gap) and not within_gap(goal, value, least - 1, gap)
    assert bound_enough(goal, 10_000, 9_999, 0.5) == 9_999


def test_a_stop_at_the_clock_is_never_called_proven() -> None:
    for family in FAMILIES:
        problem = random_problem(family, 1)
        found = minimise(problem, Effort.of(-1.0))
        if found.proven:
            assert found.chosen is None or found.value == found.bound
        assert run_cpsat(problem, Effort.of(-1.0)).proven is False


@pytest.mark.parametrize("family", FAMILIES)
def test_bounds_beyond_any_sum_are_no_bounds_or_a_proof_that_there_is_no_answer(family: str) -> None:
    """Prices of a problem without an answer may prove a bound of any size."""
    problem = random_problem(family, 0)
    plain, wide = (
        run_cpsat(problem, Effort.of(60), at_least=a, at_most=b) for a, b in ((None, None), (-(2**70), 2**70))
    )
    assert (plain.bound, plain.proven) == (wide.bound, wide.proven)
    none = run_cpsat(problem, Effort.of(60), at_least=2**70)
    assert none.proven and none.chosen is None


@pytest.mark.parametrize("family", FAMILIES)
def test_the_first_of_the_best_however_few_layers_are_settled_at_once(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(EACH // 8):
        problem = random_problem(family, seed)
        whole = minimise(problem, Effort.of(60))
        if whole.chosen is None:
            continue
        with monkeypatch.context() as patched:
            patched.setattr(solve, "LARGEST_PLACE", 3)
            found = solve.canonical_answer(problem, lagrangian_bound(problem), whole.chosen, Effort.of(60))
        assert found.tolist() == whole.chosen.tolist(), seed
