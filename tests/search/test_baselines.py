"""Baselines meet every requirement and are never better than the exact answer."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.synthetic import synthetic
from puzzledsl.ir.nodes import Baseline, ParamsTerm, Preference
from puzzledsl.ir.tables import SearchResult
from puzzledsl.search.needs import needed
from puzzledsl.search.solve import solve_search
from puzzledsl.search.verify import verify
from tests.search.instances import HERE, Instance, alone, chat, problems

quick: Any = settings(deadline=None, max_examples=25, suppress_health_check=list(HealthCheck))
KINDS = ("greedy", "max_params", "uniform", "random", "noop_only")


def baseline(instance: Instance, kind: Any, seed: int = 0) -> SearchResult:
    return solve_search(*instance.with_search(solver=Baseline(kind=kind, seed=seed)).args)


@quick
@given(problems(), st.sampled_from(KINDS))
def test_a_baseline_is_right_and_no_better_than_the_optimum(instance: Instance, kind: str) -> None:
    found, best = baseline(instance, kind), solve_search(*instance.args)
    assert found.solver == kind
    assert len(found.solutions) <= 1
    for solution in found.solutions:
        assert verify(*instance.args, solution) == []
        assert best.objective is not None
        sign = 1 if instance.search.sense == "minimize" else -1
        assert sign * solution.objective >= sign * best.objective
    if kind == "random":
        assert (not found.solutions) == (best.status == "infeasible")


@quick
@given(problems())
def test_max_params_has_the_most_parameters(instance: Instance) -> None:
    found = baseline(instance, "max_params")
    mentioned = needed(
        instance.program, "best"
    ).scenarios  # the goal that is replaced may be why its batch must fit
    memory = Preference(goal=alone(chat("memory")), sense="minimize", where=HERE)
    most = solve_search(
        *instance.with_search(
            objective=alone(ParamsTerm()), sense="maximize", preferences=(memory,) if mentioned else ()
        ).args
    )
    if most.objective is None:
        assert found.status == "infeasible"
    else:
        assert found.solutions[0].metrics["params"] == most.objective


@quick
@given(problems(), st.integers(0, 3))
def test_the_same_seed_draws_the_same_model(instance: Instance, seed: int) -> None:
    assert baseline(instance, "random", seed) == baseline(instance, "random", seed)


@pytest.mark.parametrize("kind", KINDS)
def test_baselines_on_a_model_of_eighty_layers(kind: Any) -> None:
    program, costs, scores = synthetic(seed=1, speedup=Fraction(3, 2))
    best = solve_search(program, "best", costs, scores)
    search = program.searches["best"].model_copy(update={"solver": Baseline(kind=kind)})
    found = solve_search(program.model_copy(update={"searches": {"best": search}}), "best", costs, scores)
    assert found.status == "feasible"
    assert best.objective is not None
    assert found.solutions[0].objective > 1.05 * best.objective
    blocks = {(c.attention, c.ffn) for c in found.solutions[0].layers}
    if kind == "uniform":
        assert len(blocks) == 1
    if kind == "noop_only":
        assert {name for block in blocks for name in block} <= {"parent", "noop"}
