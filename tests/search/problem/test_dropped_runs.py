"""Scores of runs of dropped layers: the score of a maximal run stands in place of its layers', exactly, in every engine."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from benchmarks.plain_cpsat import meets
from benchmarks.problems import build_problem
from puzzledsl.ir.facts import can_drop, counted_runs
from puzzledsl.ir.nodes import (
    Frontier,
    Linear,
    LogicRequirement,
    ParamsTerm,
    ScoreTerm,
    WeightedTerm,
)
from puzzledsl.ir.tables import RunScore, ScoreTable
from puzzledsl.search.answer import solution_of
from puzzledsl.search.lagrangian.bound import lagrangian_bound
from puzzledsl.search.portfolio.branching import Branching, LabelSetting, Ledger
from puzzledsl.search.portfolio.minimise import Portfolio
from puzzledsl.search.problem import diagram
from puzzledsl.search.problem.instance import Effort, presolve
from puzzledsl.search.sensitivity.why import why_search
from puzzledsl.search.solve import solve_frontier, solve_search
from puzzledsl.search.tables import tables_of
from tests.cases import cases, more
from tests.oracles import brute_force, violations
from tests.search.instances import HERE, KL, Instance, alone, at, counted, problems, program_of, require
from tests.search.run_instances import (
    FREE,
    best_children,
    children_of,
    drawn_runs,
    dropped,
    run_instance,
    scored,
    with_runs,
)
from tests.search.test_export import check as check_export

quick: Any = settings(deadline=None, max_examples=cases(10), suppress_health_check=list(HealthCheck))
seeds = st.integers(0, 10**6)
LIMIT_S = 60.0


# ---------------------------------------------------------------- the definition


def chain(runs: dict[tuple[int, int], float], layers: int = 6) -> Instance:
    """Layers of which each costs 1 to drop, half of it for either sub-block."""
    table = ScoreTable(
        score="kl", metric="kl", samples=0, attention=({"noop": 0.5},) * layers, ffn=({"noop": 0.5},) * layers
    )
    source = run_instance(0)
    costs = source.costs.model_copy(
        update={
            "params_fixed": 0,
            "params_attention": ({"parent": 1, "noop": 0},) * layers,
            "params_ffn": ({"parent": 1, "noop": 0},) * layers,
            "scenarios": {},
        }
    )
    instance = Instance(program_of((FREE,) * layers, (2,)), costs, {"kl": table})
    return with_runs(instance, [RunScore(first=f, length=n, value=v) for (f, n), v in runs.items()])


def score_of(instance: Instance, dropped: set[int]) -> Fraction:
    for child in children_of(instance):
        if {i for i, c in enumerate(child.layers) if c.attention == c.ffn == "noop"} == dropped and all(
            c.attention == c.ffn for c in child.layers
        ):
            return child.term(KL)
    raise AssertionError("no such child")


def test_a_run_has_its_measured_score_and_longer_ones_are_counted_anew() -> None:
    instance = chain({(0, 2): 1.25, (0, 3): 1.5, (1, 2): 3, (3, 3): 7, (3, 2): 2.25})
    assert score_of(instance, {0}) == 1
    assert score_of(instance, {0, 1}) == Fraction(5, 4)
    assert score_of(instance, {0, 1, 2}) == Fraction(3, 2)
    assert score_of(instance, {1, 2}) == 3
    assert score_of(instance, {0, 2, 3}) == 3  # the run of 2 and 3 was not measured
    assert score_of(instance, {1, 2, 3}) == 4  # the first two were, so the third is added
    assert score_of(instance, {0, 1, 2, 3}) == Fraction(5, 2)  # three, then one
    assert score_of(instance, {0, 1, 2, 3, 4}) == Fraction(15, 4)
    assert score_of(instance, {0, 1, 2, 3, 4, 5}) == Fraction(17, 2)
    assert score_of(instance, {0, 1, 3, 4}) == Fraction(7, 2)


def test_counted_runs_do_not_overlap_and_are_of_dropped_layers() -> None:
    rng = Random(5)
    for _ in range(300):
        layers = rng.randint(1, 12)
        dropped = [rng.random() < 0.7 for _ in range(layers)]
        measured = {(r.first, r.length) for r in drawn_runs(rng, layers, rng.randint(2, 5))}
        seen: set[int] = set()
        for first, length in counted_runs(dropped, measured):
            own = set(range(first, first + length))
            assert (first, length) in measured and not own & seen and all(dropped[i] for i in own)
            seen |= own


def test_a_run_has_several_layers() -> None:
    with pytest.raises(ValidationError):
        RunScore.from_json('{"first": 0, "length": 1, "value": 1}')


def test_a_table_without_runs_reads_as_before() -> None:
    table = scored(run_instance(0)).model_copy(update={"runs": ()})
    text = table.canonical_json().replace(' "runs": [],\n', "")
    assert "runs" not in text and ScoreTable.from_json(text) == table
    assert ScoreTable.from_json(scored(run_instance(0)).canonical_json()) == scored(run_instance(0))


# ---------------------------------------------------------------- the search


@pytest.mark.parametrize("block", [0, *more(1, 2, 3, 4)])
def test_the_answers_are_those_of_all_children(block: int) -> None:
    solved = 0
    for seed in range(12 * block, 12 * block + 12):
        instance = run_instance(seed)
        expected, result = best_children(instance), solve_search(*instance.args)
        assert [s.layers for s in result.solutions] == [layers for _, layers in expected], seed
        assert result.status == ("optimal" if expected else "infeasible"), seed
        if expected:
            assert result.objective == float(expected[0][0]) == result.bound, seed
            solved += 1
    assert solved > 6


@quick
@given(seeds)
def test_each_engine_alone_proves_the_minimum(seed: int) -> None:
    instance = run_instance(seed).with_search(sense="minimize", objective=alone(KL), solutions=1)
    expected = best_children(instance)
    presolved = presolve(build_problem(*instance.args))
    if presolved is None:
        assert not expected
        return
    problem, bound = presolved.problem, lagrangian_bound(presolved.problem)
    if bound.infeasible:
        assert not expected
        return
    for engine in ("labels", "branching", "cpsat"):
        ledger = Ledger(problem, bound, Effort.of(LIMIT_S), bound.value, None)
        match engine:
            case "labels":
                assert LabelSetting(ledger).run(10**7)
            case "branching":
                branching = Branching(ledger)
                if not branching.usable:
                    continue
                assert branching.run(10**7)
            case _:
                assert Portfolio(ledger, True).cpsat(ledger.effort)
        if not expected:
            assert ledger.chosen is None
            continue
        assert ledger.chosen is not None and ledger.value is not None
        assert problem.goal.in_units(ledger.value) == expected[0][0]
        assert problem.choice(ledger.chosen) == expected[0][1]


@pytest.mark.parametrize("seeds", [range(2), *more(range(2, 8))], ids=str)
def test_formulas_that_are_too_large_for_the_diagram_leave_runs_in_it(
    monkeypatch: pytest.MonkeyPatch, seeds: range
) -> None:
    for work in (1, 300):
        monkeypatch.setattr(diagram, "QUICK", 1)
        monkeypatch.setattr(diagram, "QUICK_A_LAYER", 0)
        monkeypatch.setattr(diagram, "WORK", work)
        for seed in seeds:
            instance = run_instance(seed).with_search(solutions=1)
            layers = range(len(instance.program.spaces["wide"].layers))
            every = tuple(map(dropped, layers))
            formula = counted(every, at_least=1, at_most=max(1, len(layers) - 2))
            requirements = (*instance.search.requirements, LogicRequirement(formula=formula, where=at(9)))
            instance = instance.with_search(requirements=requirements)
            problem = build_problem(*instance.args)
            if problem.columns.period:
                assert problem.diagram is not None and not problem.diagram.whole
            expected, result = best_children(instance), solve_search(*instance.args)
            assert [s.layers for s in result.solutions] == [layers for _, layers in expected], (work, seed)


@quick
@given(seeds)
def test_the_problem_says_of_every_child_what_the_tables_do(seed: int) -> None:
    instance = run_instance(seed)
    problem = build_problem(*instance.args)
    for child in children_of(instance)[:400]:
        chosen = problem.indices(child.layers)
        assert chosen is not None and problem.choice(chosen) == child.layers
        assert problem.goal.in_units(problem.goal.of(chosen)) == child.linear(instance.search.objective)
        assert meets(problem, chosen) == all(map(child.meets, instance.search.requirements))


@quick
@given(seeds)
def test_the_exported_model_has_the_same_optimum(seed: int) -> None:
    check_export(run_instance(seed).with_search(solutions=1).args)


@st.composite
def searches(draw: st.DrawFn, exact: bool = True) -> Instance:
    """Any small search, at any batches, with preferences and formulas, and with scores of runs."""
    instance = draw(problems(exact=exact, max_layers=4, droppable=True))
    layers, rng = len(instance.program.spaces["wide"].layers), Random(draw(seeds))
    return with_runs(instance, drawn_runs(rng, layers, draw(st.integers(2, 4)), exact=exact))


@given(searches())
@settings(quick, max_examples=cases(25))
def test_the_solver_is_brute_force(instance: Instance) -> None:
    result, best = solve_search(*instance.args), brute_force(*instance.args)
    if best is None:
        assert result.status == "infeasible"
        return
    assert (result.status, result.gap) == ("optimal", 0)
    assert result.objective == result.bound == float(best.objective)
    assert result.solutions[0].layers == best.child.layers
    assert {n: result.solutions[0].batches[n] for n in best.child.batches} == best.child.batches


@given(searches(exact=False))
@settings(quick, max_examples=cases(15))
def test_long_decimals_are_within_the_rounding(instance: Instance) -> None:
    result, best = solve_search(*instance.args), brute_force(*instance.args)
    assert (best is None) == (result.status == "infeasible")
    if best is not None and result.objective is not None and result.bound is not None:
        exact = float(best.objective)
        off = 1e-9 * (1 + abs(exact))
        assert abs(result.objective - exact) <= off and abs(result.bound - exact) <= off


@given(searches(), st.data())
@settings(quick, max_examples=cases(15))
def test_another_child_with_the_old_figures_is_found_out(instance: Instance, data: st.DataObject) -> None:
    result = solve_search(*instance.args)
    if not result.solutions:
        return
    solution = result.solutions[0]
    layer = data.draw(st.integers(0, len(solution.layers) - 1))
    gone = solution.layers[layer].model_copy(update={"attention": "noop", "ffn": "noop"})
    layers = (*solution.layers[:layer], gone, *solution.layers[layer + 1 :])
    corrupted = solution.model_copy(update={"layers": layers})
    batches = {name: solution.batches[name] for name in tables_of(*instance.args).scenarios}
    honest = solution_of(tables_of(*instance.args), layers, batches)
    if honest != corrupted:
        assert violations(*instance.args, corrupted)


@quick
@given(seeds)
def test_equal_scores_of_runs_change_nothing(seed: int) -> None:
    """Runs that score what their layers do: the search without them."""
    instance = run_instance(seed)
    tables = tables_of(*instance.args)
    single = [
        tables.score("kl", i, gone) if can and gone is not None else None
        for i, (gone, can) in enumerate(
            zip(tables.dropped(), can_drop(tables.layers, tables.shape), strict=True)
        )
    ]
    sums = [
        RunScore(first=r.first, length=r.length, value=float(sum(own, Fraction(0))))
        for r in scored(instance).runs
        if None not in (own := single[r.first : r.first + r.length])
    ]
    one, other = solve_search(*with_runs(instance, sums).args), solve_search(*with_runs(instance, ()).args)
    assert (one.status, one.objective) == (other.status, other.objective)
    assert [s.layers for s in one.solutions] == [s.layers for s in other.solutions]


@quick
@given(seeds, st.integers(1, 900))
def test_a_run_that_scores_more_never_improves_the_minimum(seed: int, more: int) -> None:
    instance = run_instance(seed).with_search(sense="minimize", objective=alone(KL), solutions=1)
    instance = instance.with_search(requirements=instance.search.requirements[:1])
    runs = list(scored(instance).runs)
    if not runs:
        return
    place = seed % len(runs)
    runs[place] = runs[place].model_copy(update={"value": runs[place].value + more / 1000})
    one, other = solve_search(*instance.args), solve_search(*with_runs(instance, runs).args)
    assert one.objective is None or (other.objective is not None and one.objective <= other.objective)


@pytest.mark.drawn
def test_two_scores_may_have_runs_of_other_lengths() -> None:
    for seed in range(cases(12)):
        rng = Random(seed)
        instance = run_instance(seed)
        layers = len(instance.program.spaces["wide"].layers)
        other = scored(instance).model_copy(
            update={"score": "loss", "runs": tuple(drawn_runs(rng, layers, 3))}
        )
        scores = {
            **instance.program.scores,
            "loss": instance.program.scores["kl"].model_copy(update={"name": "loss"}),
        }
        program = instance.program.model_copy(update={"scores": scores})
        terms = [
            WeightedTerm(coefficient=Fraction(c), term=ScoreTerm(score=n))
            for c, n in ((1, "kl"), (2, "loss"))
        ]
        both = Instance(program, instance.costs, {**instance.scores, "loss": other})
        both = both.with_search(objective=Linear(terms=tuple(terms)), solutions=1)
        expected, result = best_children(both), solve_search(*both.args)
        assert [s.layers for s in result.solutions] == [layers for _, layers in expected], seed


# ---------------------------------------------------------------- what is said besides


def test_verify_rejects_the_sum_in_place_of_the_run() -> None:
    instance = chain({(0, 2): 1.25, (0, 3): 1.5, (0, 4): 1.5}).with_search(
        requirements=(require(ParamsTerm(), "<=", 4),)
    )
    solution = solve_search(*instance.args).solutions[0]
    assert solution.objective == 1.5 and violations(*instance.args, solution) == []
    wrong = solution.model_copy(update={"objective": 4.0, "metrics": {**solution.metrics, "kl": 4.0}})
    assert [v.kind for v in violations(*instance.args, wrong)] == ["objective", "metric"]
    plain = with_runs(instance, ())
    assert [v.kind for v in violations(*plain.args, solution)] == ["objective", "metric"]


def test_a_bound_on_the_score_is_one_on_that_of_runs() -> None:
    instance = chain({(0, 2): 0.5, (2, 2): 3.0}).with_search(
        objective=alone(ParamsTerm()), requirements=(require(KL, "<=", Fraction(1, 2)),)
    )
    result = solve_search(*instance.args)
    assert result.objective == 8 and result.status == "optimal"
    assert [c.ffn for c in result.solutions[0].layers] == ["noop"] * 2 + ["parent"] * 4
    refused = instance.with_search(
        requirements=(require(KL, "<=", Fraction(1, 4)), require(ParamsTerm(), "<=", 8, line=2))
    )
    result = solve_search(*refused.args)
    assert result.status == "infeasible" and {item.reachable for item in result.conflict} == {"0.5", "12"}
    assert result.relaxation is not None


def test_a_frontier_along_the_score_meets_it() -> None:
    instance = chain({(0, 2): 0.5, (0, 3): 0.75, (3, 3): 0.5}).with_search(objective=alone(ParamsTerm()))
    frontier = Frontier(
        name="f",
        search="best",
        term=KL,
        low=Fraction(0),
        high=Fraction(2),
        points=5,
        where=HERE,
        times_parent=False,
    )
    program = instance.program.model_copy(update={"frontiers": {"f": frontier}})
    points = solve_frontier(program, "f", instance.costs, instance.scores).points
    for point in points:
        bounded = instance.with_search(requirements=(require(KL, "<=", Fraction(point.target)),))
        assert point.result.objective == float(best_children(bounded)[0][0])


@pytest.mark.parametrize("seeds", [range(2), *more(range(2, 6))], ids=str)
def test_regrets_are_those_of_solving_again(seeds: range) -> None:
    for seed in seeds:
        instance = run_instance(seed).with_search(solutions=1)
        expected = best_children(instance)
        if not expected:
            continue
        why = why_search(*instance.args)
        sign = 1 if instance.search.sense == "minimize" else -1
        for place in why.sub_blocks:  # type: ignore[union-attr]
            for regret in place.regrets:
                meeting = [
                    sign * c.linear(instance.search.objective)
                    for c in children_of(instance)
                    if getattr(c.layers[place.layer], place.sub_block) == regret.alternative
                    and all(map(c.meets, instance.search.requirements))
                ]
                loss = None if not meeting else float(min(meeting) - sign * expected[0][0])
                assert (regret.at_least, regret.at_most) == (loss, loss), (seed, place.layer, regret)


# ---------------------------------------------------------------- columns


def test_numbering_gives_each_choice_its_one_order() -> None:
    instance = chain({(0, 2): 0.5, (1, 3): 0.5}, layers=7)
    problem = build_problem(*instance.args)
    columns = problem.columns
    assert columns.period == 3
    rng = np.random.default_rng(0)
    for _ in range(50):
        chosen = columns.start[:-1] + rng.integers(0, columns.sizes)
        numbered = columns.numbered(chosen)
        assert (numbered >= 0).all() and problem.choice(numbered) == problem.choice(chosen)
        assert problem.meeting_formulas(numbered[None, :])[0] and meets(replace(problem, rows=()), numbered)
        assert problem.meeting_formulas(chosen[None, :])[0] == np.array_equal(chosen, numbered)


def test_without_neighbours_that_can_be_dropped_nothing_is_numbered() -> None:
    instance = chain({(0, 2): 0.5}, layers=1)
    assert build_problem(*instance.args).columns.period == 0
    other = chain({(0, 2): 0.5}).with_search(objective=alone(ParamsTerm()))
    assert build_problem(*other.args).columns.period == 0  # nothing in the search asks for the score
