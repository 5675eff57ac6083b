"""The solver is brute force, only faster."""

from collections import defaultdict
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from benchmarks.problems import build_problems
from puzzledsl.costs.metrics import metrics_of
from puzzledsl.ir.metric_records import TERMS
from puzzledsl.ir.nodes import CountTerm, CpSat, LayerChoice, ParamsTerm, Preference
from puzzledsl.search.answer import child_figures
from puzzledsl.search.problem.metrics import Child
from puzzledsl.search.solve import solve_search
from puzzledsl.search.tables import Tables, tables_of
from tests.oracles import (
    acceptable,
    all_children,
    brute_force,
    children_at_own_batches,
    objective,
    violations,
)
from tests.search.auto_instances import auto_searches
from tests.search.instances import (
    ATTENTION,
    FFN,
    HERE,
    Instance,
    alike,
    alone,
    chat,
    plain_instance,
    problems,
    quick,
    require,
    swept,
)
from tests.search.run_instances import run_instance, run_searches


def several(instance: Instance, apart: int) -> Instance:
    return instance.with_search(solutions=3, apart=apart)


def tied(layers: int, goal: str, ratio: str) -> Instance:
    """Alike layers, a goal that hardly tells models apart, and a budget."""
    count = CountTerm(sub_block="ffn", alternatives=("parent",), layers=tuple(range(layers)))
    return plain_instance(
        (LayerChoice(attention=ATTENTION[:3], ffn=FFN[:3]),) * layers,
        objective=alone(ParamsTerm() if goal == "params" else count),
        sense="maximize",
        requirements=(require(chat("latency"), "<=", ratio=ratio),),
    )


KINDS = {
    "any": problems(),
    "several answers": st.builds(several, problems(max_layers=3), st.integers(1, 3)),
    "alike layers": problems().map(alike),
    "many equal answers": st.builds(
        tied, st.integers(2, 3), st.sampled_from(["params", "count"]), st.sampled_from(["0.9", "0.75", "0.6"])
    ),
    "runs": run_searches(),
    "runs of more layers": st.builds(run_instance, st.integers(0, 10**6)),
}


@pytest.mark.parametrize("kind", KINDS)
@quick(25)
@given(st.data())
def test_the_solver_is_brute_force(kind: str, data: st.DataObject) -> None:
    instance = data.draw(KINDS[kind])
    result, best = solve_search(*instance.args), brute_force(*instance.args)
    assert [s.layers for s in result.solutions] == [child.layers for child in best]  # ties: the space's order
    if not best:
        assert result.status == "infeasible"
        return
    assert (result.status, result.gap) == ("optimal", 0)
    assert result.objective == result.bound == float(objective(best[0]))
    assert {n: result.solutions[0].batches[n] for n in best[0].batches} == best[0].batches


@pytest.mark.parametrize("strategy", [problems(exact=False), run_searches(exact=False)], ids=["any", "runs"])
@quick(25)
@given(st.data())
def test_long_decimals_are_within_the_rounding(
    strategy: st.SearchStrategy[Instance], data: st.DataObject
) -> None:
    instance = data.draw(strategy)
    result, best = solve_search(*instance.args), brute_force(*instance.args)
    assert (not best) == (result.status == "infeasible")
    if not best or result.objective is None or result.bound is None:
        return
    exact = float(objective(best[0]))
    off = 1e-9 * (1 + abs(exact))
    low, high = sorted((result.bound, result.objective))
    assert low <= exact <= high and abs(result.objective - exact) <= off and high - low <= off


@quick(25)
@given(problems(), st.integers(0, 5), st.sampled_from([1, 3]))
def test_the_answer_depends_on_no_seed_and_no_workers(instance: Instance, seed: int, workers: int) -> None:
    one = solve_search(*instance.args)
    other = instance.with_search(solver=CpSat(time_s=Fraction(60), seed=seed))
    assert solve_search(*other.args, workers=workers) == one


@pytest.mark.parametrize("kind", ["any", "runs of more layers"])
@quick(25)
@given(st.data())
def test_rows_and_goals_say_what_the_metrics_say(kind: str, data: st.DataObject) -> None:
    """The integers that are solved and the fractions that verify are two implementations of one meaning."""
    instance = data.draw(KINDS[kind])
    tables = tables_of(*instance.args)
    at = {tuple(sorted(p.batches.items())): p for p in build_problems(*instance.args)}
    for child in [*all_children(tables)][:1000]:
        problem = at[tuple(sorted(child.batches.items()))]
        chosen = problem.indices(child.layers)
        assert chosen is not None and problem.choice(chosen) == child.layers
        assert problem.goal.in_units(problem.goal.of(chosen)) == objective(child)
        assert problem.is_feasible(chosen) == acceptable(child)


def test_a_preference_decides_between_batches_that_the_objective_cannot() -> None:
    instance = plain_instance((LayerChoice(attention=ATTENTION, ffn=FFN),) * 2)
    [small] = instance.costs.scenarios["chat"]
    large = small.model_copy(update={"batch": 4})
    costs = instance.costs.model_copy(update={"scenarios": {"chat": (small, large)}})
    instance = Instance(instance.program, costs, instance.scores)
    for sense, batch in (("maximize", 4), ("minimize", 2)):
        wish = Preference.model_validate({"goal": alone(chat("throughput")), "sense": sense, "where": HERE})
        result = solve_search(*instance.with_search(preferences=(wish,)).args)
        assert result.objective == 0
        assert result.solutions[0].batches == {"chat": batch}


# ---------------------------------------------------------------- figures of any child


@pytest.mark.parametrize(
    ("strategy", "children"),
    [(problems(max_layers=3), all_children), (auto_searches(most=8), children_at_own_batches)],
    ids=["listed batches", "the largest that fits"],
)
@quick(20)
@given(st.data())
def test_figures_of_any_child_are_those_of_enumeration(
    strategy: st.SearchStrategy[Instance], children: Callable[[Tables], Iterator[Child]], data: st.DataObject
) -> None:
    """Its best acceptable batches are taken; where there are none, it is not feasible."""
    tables = tables_of(*data.draw(strategy).args)
    by_layers: dict[Any, list[Child]] = defaultdict(list)
    for child in children(tables):
        by_layers[child.layers].append(child)
    better = min if tables.search.sense == "minimize" else max
    for layers, candidates in by_layers.items():
        figures, good = child_figures(tables, layers), [c for c in candidates if acceptable(c)]
        assert figures.feasible == bool(good)
        if good:
            assert figures.objective == better(map(objective, good))
        assert [r.holds for r in figures.requirements] == [
            Child(tables, layers, figures.batches).meets(r) for r in tables.search.requirements
        ]


@quick(20)
@given(problems())
def test_a_solution_verifies_and_has_these_figures(instance: Instance) -> None:
    tables = tables_of(*instance.args)
    for solution in solve_search(*instance.args).solutions:
        given = {name: solution.batches[name] for name in tables.scenarios}
        figures = child_figures(tables, solution.layers, given)
        assert figures.feasible and violations(*instance.args, solution) == []
        assert figures.batches == solution.batches and float(figures.objective) == solution.objective
        assert {name: float(value) for name, value in figures.metrics.items()} == solution.metrics
        for costs in instance.costs.scenarios["chat"]:
            if costs.batch == solution.batches["chat"]:
                found = metrics_of(costs, solution.layers)
                named = {f"chat.{name}": float(found[name]) for name in TERMS if name != "batch"}
                assert named.items() <= solution.metrics.items()


# ---------------------------------------------------------------- frontiers


@quick(15)
@given(problems(max_layers=3))
def test_each_point_is_the_search_with_one_more_requirement(instance: Instance) -> None:
    latency, asked = chat("latency"), instance.search.requirements
    assume(not any(r.kind == "linear" and r.left.terms[0].term == latency for r in asked))
    result = swept(instance, latency, 0, "1/20000000", points=3)
    for point, target in zip(result.points, ("0", "1/40000000", "1/20000000"), strict=True):
        assert point.target == float(Fraction(target))
        more = (*asked, require(latency, "<=", target))
        alone = solve_search(*instance.with_search(requirements=more).args)
        assert (point.result.status, point.result.objective) == (alone.status, alone.objective)
