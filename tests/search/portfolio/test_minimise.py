"""On hundreds of small problems of every family: the minimum is the one that trying all models finds, and the first of those."""

from dataclasses import replace
from typing import Any

import pytest

from puzzledsl.ir.nodes import Distinct, Taken
from puzzledsl.search.cpsat.solve import run_cpsat
from puzzledsl.search.label_setting import sweep as sweeps
from puzzledsl.search.label_setting.sweep import Index, SuffixTable, sweep_of
from puzzledsl.search.lagrangian.bound import lagrangian_bound
from puzzledsl.search.portfolio import minimise as core
from puzzledsl.search.portfolio.branching import Ledger
from puzzledsl.search.portfolio.minimise import minimise
from puzzledsl.search.problem import diagram
from puzzledsl.search.problem.instance import Effort, Outcome, Problem
from puzzledsl.search.problem.normal_form import Formula
from tests.cases import ALL, cases
from tests.search.integer_problems import (
    FAMILIES,
    FIGURES,
    answers_of,
    check_minimum,
    first_of_the_best,
    random_problem,
    structured_problem,
    values_of,
)

pytestmark = pytest.mark.drawn
EACH = cases(40)  # problems of each family
of_each_family = pytest.mark.parametrize("family", FAMILIES)


def effort(**more: Any) -> Effort:
    return replace(Effort.of(60), **more)


@of_each_family
def test_the_minimum_is_that_of_all_models(family: str) -> None:
    for seed in range(EACH):
        problem = random_problem(family, seed)
        check_minimum(problem, answers_of(problem), minimise(problem, effort()), seed)


@pytest.mark.parametrize("figures", FIGURES)
def test_with_structure_too(figures: str) -> None:
    solvable = decided = 0
    for seed in range(EACH):
        problem = structured_problem(figures, seed)
        answers = answers_of(problem)
        check_minimum(problem, answers, minimise(problem, effort()), seed)
        solvable += bool(len(answers))
        decided += len(answers) < len(answers_of(replace(problem, formulas=())))
    assert not ALL or (solvable > EACH // 4 and decided > EACH // 2)


def said(found: Outcome) -> tuple[Any, ...]:
    chosen = None if found.chosen is None else found.chosen.tolist()
    return found.value, found.bound, found.proven, chosen


@of_each_family
def test_without_sweeps_and_with_several_workers_it_is_the_same(family: str) -> None:
    """CP-SAT alone on the core, of any seed and number of workers, gives the same model."""
    for seed in range(4):
        problem = random_problem(family, seed)
        swept = minimise(problem, effort())
        for workers, solver_seed in ((1, 0), (1, 5), (2, 1), (4, 3)):
            given = replace(Effort.of(60, seed=solver_seed, workers=workers), labels=0)
            assert said(minimise(problem, given)) == said(swept), seed


# ---------------------------------------------------------------- sweeps


@of_each_family
@pytest.mark.parametrize(("together", "suffixes"), [(1, 0), (3, 0), (0, 2), (0, 10), (0, 1000)])
def test_a_sweep_of_everything_ends_at_the_best(
    family: str, together: int, suffixes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many models at a time; or with ends looked up from the first layer on, however few last layers are listed."""
    looked_up, plain = [], Index.pairs

    def spied(*args: Any) -> Any:
        looked_up.append(args)
        return plain(*args)

    def table(layout: Any, resources: Any, _: int, deadline: float) -> SuffixTable:
        return SuffixTable(layout, resources, suffixes, deadline)

    if together:
        monkeypatch.setattr(sweeps, "TOGETHER", together)
    else:
        monkeypatch.setattr(sweeps, "FIRST_SUFFIXES", 0)
        monkeypatch.setattr(sweeps, "MORE_SUFFIXES", 1)
        monkeypatch.setattr(sweeps, "SuffixTable", table)
        monkeypatch.setattr(Index, "pairs", spied)
    for seed in range(EACH):
        problem = random_problem(family, seed)
        bound, answers = lagrangian_bound(problem), answers_of(problem)
        top = int(problem.columns.most(problem.goal.values).sum())
        if sweep_of(problem, bound, top) is None or not len(answers):
            continue
        least = int(values_of(problem, answers).min())
        for limit in (top, least):
            sweep = sweep_of(problem, bound, limit)
            assert sweep is not None
            swept = sweep.run()
            assert swept.proven and swept.value == least, seed
            assert swept.chosen is not None and problem.goal.of(swept.chosen) == least, seed
            if suffixes:  # the first of the best
                assert swept.chosen.tolist() == first_of_the_best(problem, answers), seed
    # where all rows are roomy, none has a price
    assert looked_up or not ALL or suffixes < 1000 or family == "roomy"


# ---------------------------------------------------------------- limits, bounds and several answers


@of_each_family
@pytest.mark.parametrize("labels", [None, 0], ids=["all engines", "CP-SAT alone"])
def test_whether_there_is_an_answer_up_to_a_limit_is_proven(family: str, labels: int | None) -> None:
    """A limit between what one batch reaches and what another has found is settled, and not given up."""
    given = effort() if labels is None else effort(labels=labels)
    for seed in range(EACH // 4):
        problem = random_problem(family, seed)
        top = int(problem.columns.most(problem.goal.values).sum())
        least = int(values_of(problem, answers_of(problem)).min(initial=top + 1))
        for at_most in sorted({least - 1, least, least + 50, top}):
            found = minimise(problem, given, at_most=at_most)
            assert found.proven, (seed, at_most)
            assert found.value == (least if least <= min(at_most, top) else None), (seed, at_most)
            assert (found.chosen is None) == (found.value is None), (seed, at_most)


def test_a_stop_at_the_clock_is_never_called_proven() -> None:
    for family in FAMILIES:
        problem = random_problem(family, 1)
        found = minimise(problem, Effort.of(-1.0))
        assert not found.proven or found.chosen is None or found.value == found.bound
        assert run_cpsat(problem, Effort.of(-1.0)).proven is False
        assert run_cpsat(problem, effort(), at_least=5, at_most=4).infeasible, "none can be"


# ---------------------------------------------------------------- case by case


def with_few_kinds(problem: Problem, most: int) -> Problem:
    """The problem with at most so many different attentions."""
    names = tuple(sorted({choice.attention for choice in problem.columns.choices}))
    layers = tuple(range(problem.columns.layers))
    taken = Taken(attention=names, ffn=(), values=tuple((name,) for name in names), layers=layers)
    return replace(problem, formulas=(Formula("few", Distinct(taken=(taken,), at_most=most)),))


def by_cases(problem: Problem) -> Outcome | None:
    """The outcome case by case; None if there are no cases."""
    found, bound = core.cases_of(problem), lagrangian_bound(problem)
    ledger = Ledger(problem, bound, effort(), bound.value, None)

    def of_case(part: Problem, bound: object, most: int) -> Outcome:
        return minimise(part, effort(), at_most=most)

    return None if found is None else ledger.outcome(core.by_cases(ledger, found, of_case), core.CASES)


@of_each_family
def test_case_by_case_it_is_the_same(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the limit on the number of kinds of layers; also where a search takes cases because its diagram is large."""
    for module, name in ((diagram, "QUICK"), (diagram, "QUICK_A_LAYER"), (core, "EARLY")):
        monkeypatch.setattr(module, name, 0)
    seen = 0
    for seed in range(cases(12)):
        for most in (1, 2, 3):
            problem = with_few_kinds(random_problem(family, seed), most)
            if (found := by_cases(problem)) is not None:
                seen += 1
                answers = answers_of(replace(problem, formulas=()))
                answers = answers[problem.meeting_formulas(answers)] if len(answers) else answers
                for each in (found, minimise(problem, effort())):
                    check_minimum(problem, answers, each, (seed, most))
    assert seen >= 10 or not ALL


def test_statements_that_share_choices_give_no_cases() -> None:
    problem = with_few_kinds(random_problem("roomy", 1), 2)
    logic = problem.formulas[0].logic
    assert isinstance(logic, Distinct)
    [own] = logic.taken
    halves = tuple(("even" if i % 2 else "odd",) for i in range(len(own.attention)))
    both = logic.model_copy(update={"taken": (own, own.model_copy(update={"values": halves}))})
    assert core.cases_of(replace(problem, formulas=(Formula("few", both),))) is None
