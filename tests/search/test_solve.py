"""The solver is brute force, only faster."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.problems import build_problems
from puzzledsl.costs.metrics import metrics_of
from puzzledsl.ir.metric_records import TERMS
from puzzledsl.ir.nodes import CpSat, LayerChoice, Preference
from puzzledsl.search.problem.metrics import Child
from puzzledsl.search.solve import solve_search
from puzzledsl.search.tables import tables_of
from tests.cases import cases
from tests.oracles import all_children, apart, brute_force, violations
from tests.search.instances import ATTENTION, FFN, HERE, Instance, alone, chat, plain_instance, problems

quick: Any = settings(deadline=None, max_examples=cases(25), suppress_health_check=list(HealthCheck))


@quick
@given(problems())
def test_solver_is_brute_force(instance: Instance) -> None:
    result, best = solve_search(*instance.args), brute_force(*instance.args)
    if best is None:
        assert result.status == "infeasible"
        return
    assert result.status == "optimal"
    assert result.gap == 0
    assert result.objective == result.bound == float(best.objective)
    assert result.solutions[0].layers == best.child.layers  # ties are decided in the order of the space
    assert {n: result.solutions[0].batches[n] for n in best.child.batches} == best.child.batches


@quick
@given(problems(exact=False))
def test_long_decimals_are_within_the_rounding(instance: Instance) -> None:
    result, best = solve_search(*instance.args), brute_force(*instance.args)
    assert (best is None) == (result.status == "infeasible")
    if best is None or result.objective is None or result.bound is None:
        return
    exact = float(best.objective)
    off = 1e-9 * (1 + abs(exact))
    assert abs(result.objective - exact) <= off
    low, high = sorted((result.bound, result.objective))
    assert low <= exact <= high
    assert high - low <= off


@quick
@given(problems(max_layers=3), st.integers(1, 3))
def test_several_solutions_are_each_the_best_given_those_before(instance: Instance, apart_by: int) -> None:
    instance = instance.with_search(solutions=3, apart=apart_by)
    tables = tables_of(*instance.args)
    result = solve_search(*instance.args)
    before: tuple[Child, ...] = ()
    for solution in result.solutions:
        best = brute_force(*instance.args, before=before)
        assert best is not None
        assert solution.layers == best.child.layers
        child = Child(tables, solution.layers, best.child.batches)
        assert all(apart(child, b) >= apart_by for b in before)
        before += (child,)
    if len(result.solutions) < 3:
        assert brute_force(*instance.args, before=before) is None


@quick
@given(problems(), st.integers(0, 5), st.sampled_from([1, 3]))
def test_the_answer_depends_on_no_seed_and_no_workers(instance: Instance, seed: int, workers: int) -> None:
    one = solve_search(*instance.args)
    other = instance.with_search(solver=CpSat(time_s=Fraction(60), seed=seed))
    assert solve_search(*other.args, workers=workers) == one


@quick
@given(problems())
def test_every_solution_verifies_and_reports_what_the_cost_stage_computes(instance: Instance) -> None:
    result = solve_search(*instance.args)
    for solution in result.solutions:
        assert violations(*instance.args, solution) == []
        for costs in instance.costs.scenarios["chat"]:
            if costs.batch == solution.batches["chat"]:
                expected = metrics_of(costs, solution.layers)
                assert expected.pop("batch") == costs.batch
                assert {m: solution.metrics[f"chat.{m}"] for m in TERMS if m != "batch"} == {
                    m: float(v) for m, v in expected.items()
                }


@quick
@given(problems())
def test_rows_and_goals_say_what_the_metrics_say(instance: Instance) -> None:
    """The integers that are solved and the fractions that verify are two implementations of one meaning."""
    tables = tables_of(*instance.args)
    at = {tuple(sorted(p.batches.items())): p for p in build_problems(*instance.args)}
    for child in all_children(tables):
        problem = at[tuple(sorted(child.batches.items()))]
        chosen = problem.indices(child.layers)
        assert chosen is not None
        assert problem.goal.in_units(problem.goal.of(chosen)) == child.linear(tables.search.objective)
        meets = all(map(child.meets, tables.search.requirements)) and all(map(child.fits, tables.scenarios))
        assert problem.is_feasible(chosen) == meets


@quick
@given(problems())
def test_tightening_never_improves_and_dropping_never_worsens(instance: Instance) -> None:
    whole = solve_search(*instance.args)
    for index in range(len(instance.search.requirements)):
        kept = tuple(r for i, r in enumerate(instance.search.requirements) if i != index)
        looser = solve_search(*instance.with_search(requirements=kept).args)
        if whole.objective is not None:
            assert looser.objective is not None
            better = looser.objective - whole.objective
            assert better <= 0 if instance.search.sense == "minimize" else better >= 0


@quick
@given(problems(logic=False), st.data())
def test_adding_an_alternative_never_worsens(instance: Instance, data: st.DataObject) -> None:
    space = instance.program.spaces["wide"]
    layer = data.draw(st.integers(0, len(space.layers) - 1))
    choice = space.layers[layer]
    if len(choice.attention) == 1:
        return
    fewer = choice.model_copy(update={"attention": choice.attention[1:]})
    layers = (*space.layers[:layer], fewer, *space.layers[layer + 1 :])
    program = instance.program.model_copy(
        update={"spaces": {"wide": space.model_copy(update={"layers": layers})}}
    )
    narrow = solve_search(program, "best", instance.costs, instance.scores)
    wide = solve_search(*instance.args)
    if narrow.objective is not None:
        assert wide.objective is not None
        sign = 1 if instance.search.sense == "minimize" else -1
        assert sign * wide.objective <= sign * narrow.objective


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
