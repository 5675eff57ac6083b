"""Decision diagrams hold exactly what formulas say, bounds over paths are bounds, and every engine alone finds the optimum."""

from dataclasses import replace

import numpy as np
import pytest

from puzzledsl.search.lagrangian.bound import certify, lagrangian_bound
from puzzledsl.search.portfolio.branching import Branching, LabelSetting, Ledger
from puzzledsl.search.portfolio.minimise import Portfolio, minimise
from puzzledsl.search.problem import diagram
from puzzledsl.search.problem.columns import Ints
from puzzledsl.search.problem.diagram import DEAD, Diagram, diagram_of
from puzzledsl.search.problem.instance import Effort, Problem, presolve
from tests.cases import ALL, cases
from tests.search.integer_problems import (
    FIGURES,
    answers_of,
    check_minimum,
    every_model,
    first_of_the_best,
    structured_problem,
    values_of,
)

pytestmark = pytest.mark.drawn
EACH = cases(25)


def with_diagram(problem: Problem) -> Problem:
    return replace(problem, diagram=diagram_of(problem.columns, problem.formulas))


def on_a_path(made: Diagram, chosen: Ints) -> bool:
    state = 0
    for layer, table in zip(made.order, made.next, strict=True):
        state = int(table[state, made.classes[chosen[layer]]]) if state != DEAD else DEAD
    return made.feasible and state != DEAD


@pytest.mark.parametrize("figures", FIGURES)
def test_paths_are_the_choices_that_meet_the_formulas(figures: str) -> None:
    for seed in range(EACH):
        problem = with_diagram(structured_problem(figures, seed))
        made = problem.diagram
        assert made is not None and made.whole
        meets = {tuple(a) for a in answers_of(replace(problem, rows=())).tolist()}
        paths = {tuple(m) for m in every_model(problem.columns).tolist() if on_a_path(made, np.array(m))}
        assert paths == meets, seed


@pytest.mark.parametrize("figures", FIGURES)
def test_fewer_columns_leave_the_paths_through_them(figures: str) -> None:
    for seed in range(EACH):
        problem = with_diagram(structured_problem(figures, seed))
        rng = np.random.default_rng(seed)
        keep = rng.random(len(problem.columns)) < 0.6
        keep[problem.columns.start[:-1]] = True
        part, origin = problem.only(keep), keep.nonzero()[0]
        assert problem.diagram is not None and part.diagram is not None
        for model in every_model(part.columns)[::3]:
            assert on_a_path(part.diagram, model) == on_a_path(problem.diagram, origin[model]), seed
        if part.diagram.feasible:
            live = presolve(part)
            used = {c for m in every_model(part.columns) if on_a_path(part.diagram, m) for c in m.tolist()}
            assert live is not None and set(live.origin.tolist()) == used, seed


@pytest.mark.parametrize("figures", FIGURES)
def test_no_answer_is_below_the_bound_over_paths_or_its_slacks(figures: str) -> None:
    for seed in range(EACH):
        problem = with_diagram(structured_problem(figures, seed))
        answers = answers_of(problem)
        rng = np.random.default_rng(seed)
        priced = [certify(problem, rng.uniform(0, dear, len(problem.rows))) for dear in (3, 1e12)]
        for bound in (lagrangian_bound(problem), *priced):
            assert not (bound.infeasible and len(answers)), seed
            for chosen in answers:
                value = problem.goal.of(chosen)
                assert bound.value <= value, seed
                assert all(bound.exact + int(s) <= value * bound.scale for s in bound.slack[chosen]), seed


@pytest.mark.parametrize("figures", FIGURES)
@pytest.mark.parametrize("engine", ["labels", "branching", "CP-SAT"])
def test_each_engine_alone_proves_the_first_of_the_best(
    figures: str, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Branching with so few labels a node that it branches."""
    monkeypatch.setattr("puzzledsl.search.portfolio.branching.LABELS", 3)
    ended = 0
    for seed in range(EACH if engine != "CP-SAT" else cases(8)):
        problem = structured_problem(figures, seed)
        presolved, answers = presolve(problem), answers_of(problem)
        if presolved is None or (bound := lagrangian_bound(presolved.problem)).infeasible:
            assert not len(answers), seed
            continue
        ledger = Ledger(presolved.problem, bound, Effort.of(60), bound.value, None)
        if engine == "labels":
            done = LabelSetting(ledger).run(10**7)
        elif engine == "branching":
            done = Branching(ledger).run(10**7)
        else:
            done = Portfolio(ledger, True).cpsat(ledger.effort)
        ended += done
        if done:
            assert (ledger.chosen is None) == (not len(answers)), seed
        if done and ledger.chosen is not None:
            assert ledger.lower == ledger.value == values_of(problem, answers).min(), seed
            assert presolved.origin[ledger.chosen].tolist() == first_of_the_best(problem, answers), seed
    assert ended


@pytest.mark.parametrize("figures", FIGURES)
def test_formulas_that_are_too_large_for_a_diagram_have_the_same_answer(
    figures: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(diagram, "MOST_STATES", 1)
    left_out = 0
    for seed in range(EACH):
        problem = structured_problem(figures, seed)
        left_out += diagram_of(problem.columns, problem.formulas) is None
        check_minimum(problem, answers_of(problem), minimise(problem, Effort.of(60)), seed)
    assert left_out or not ALL
