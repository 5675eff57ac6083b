"""Scores of runs of dropped layers: the score of a maximal run stands in place of its layers', exactly, in every engine."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.problems import build_problem
from puzzledsl.ir.nodes import LogicRequirement
from puzzledsl.ir.tables import RunScore, ScoreTable
from puzzledsl.search.lagrangian.bound import lagrangian_bound
from puzzledsl.search.portfolio.branching import Branching, LabelSetting, Ledger
from puzzledsl.search.portfolio.minimise import Portfolio
from puzzledsl.search.problem import diagram
from puzzledsl.search.problem.instance import Effort, presolve
from puzzledsl.search.solve import solve_search
from tests.cases import more
from tests.oracles import brute_force, objective
from tests.search.instances import KL, Instance, alone, at, counted, program_of, quick
from tests.search.run_instances import (
    FREE,
    children_of,
    dropped,
    run_instance,
    with_runs,
)

seeds = st.integers(0, 10**6)


# ---------------------------------------------------------------- the definition


def chain(runs: dict[tuple[int, int], float], layers: int = 6) -> Instance:
    """Layers of which each costs 1 to drop, half of it for either sub-block."""
    half, one = ({"noop": 0.5},) * layers, ({"parent": 1, "noop": 0},) * layers
    table = ScoreTable(score="kl", metric="kl", samples=0, attention=half, ffn=half)
    costs = run_instance(0).costs.model_copy(
        update={"params_fixed": 0, "params_attention": one, "params_ffn": one, "scenarios": {}}
    )
    instance = Instance(program_of((FREE,) * layers, (2,)), costs, {"kl": table})
    return with_runs(instance, [RunScore(first=f, length=n, value=v) for (f, n), v in runs.items()])


def score_of(instance: Instance, dropped: set[int]) -> Fraction:
    names = ["noop" if i in dropped else "parent" for i in range(len(instance.layers))]
    (child,) = (
        c
        for c in children_of(instance)
        if [(x.attention, x.ffn) for x in c.layers] == [(n, n) for n in names]
    )
    return child.term(KL)


def test_a_run_has_its_measured_score_and_longer_ones_are_counted_anew() -> None:
    instance = chain({(0, 2): 1.25, (0, 3): 1.5, (1, 2): 3, (3, 3): 7, (3, 2): 2.25})
    scores = {
        (0,): 1,
        (0, 1): Fraction(5, 4),
        (0, 1, 2): Fraction(3, 2),
        (1, 2): 3,
        (0, 2, 3): 3,  # the run of 2 and 3 was not measured
        (1, 2, 3): 4,  # the first two were, so the third is added
        (0, 1, 2, 3): Fraction(5, 2),  # three, then one
        (0, 1, 2, 3, 4): Fraction(15, 4),
        (0, 1, 2, 3, 4, 5): Fraction(17, 2),
        (0, 1, 3, 4): Fraction(7, 2),
    }
    assert {layers: score_of(instance, {*layers}) for layers in scores} == scores


# ---------------------------------------------------------------- the search


@quick(10)
@given(seeds)
def test_each_engine_alone_proves_the_minimum(seed: int) -> None:
    instance = run_instance(seed).with_search(sense="minimize", objective=alone(KL), solutions=1)
    best = brute_force(*instance.args)
    presolved = presolve(build_problem(*instance.args))
    if presolved is None or (bound := lagrangian_bound(presolved.problem)).infeasible:
        assert not best
        return
    problem = presolved.problem
    for engine in (LabelSetting, Branching, Portfolio):
        ledger = Ledger(problem, bound, Effort.of(60), bound.value, None)
        if engine is Portfolio:
            assert Portfolio(ledger, True).cpsat(ledger.effort)
        elif engine is LabelSetting or Branching(ledger).usable:
            assert engine(ledger).run(10**7)
        else:
            continue
        assert (ledger.chosen is None) == (not best)
        if ledger.chosen is not None and ledger.value is not None:
            assert problem.goal.in_units(ledger.value) == objective(best[0])
            assert problem.choice(ledger.chosen) == best[0].layers


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
            count = len(instance.layers)
            formula = counted(tuple(map(dropped, range(count))), at_least=1, at_most=max(1, count - 2))
            requirements = (*instance.search.requirements, LogicRequirement(formula=formula, where=at(9)))
            instance = instance.with_search(requirements=requirements)
            problem = build_problem(*instance.args)
            if problem.columns.period:
                assert problem.diagram is not None and not problem.diagram.whole
            best, result = brute_force(*instance.args), solve_search(*instance.args)
            assert [s.layers for s in result.solutions] == [child.layers for child in best], (work, seed)
