"""Baselines meet every requirement and are never better than the exact answer."""

from __future__ import annotations

from fractions import Fraction
from itertools import product
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.synthetic import synthetic
from puzzledsl.alternatives.alternative import SubBlock
from puzzledsl.alternatives.gqa import GqaAttention
from puzzledsl.alternatives.linear import NoOpFfn
from puzzledsl.alternatives.parent import ParentAttention, ParentFfn
from puzzledsl.ir.nodes import (
    BASELINES,
    Baseline,
    Is,
    LayerChoice,
    LogicRequirement,
    Not,
    ParamsTerm,
    Preference,
)
from puzzledsl.ir.tables import SearchResult
from puzzledsl.search.baselines import solve_baselines
from puzzledsl.search.needs import needed
from puzzledsl.search.solve import solve_search
from tests.oracles import violations
from tests.search.instances import (
    ATTENTION,
    FFN,
    HERE,
    Instance,
    alone,
    at,
    chat,
    measured,
    plain_instance,
    problems,
    require,
)

quick: Any = settings(deadline=None, max_examples=25, suppress_health_check=list(HealthCheck))
PARTS: tuple[SubBlock, ...] = ("attention", "ffn")


def baseline(instance: Instance, kind: Any, seed: int = 0) -> SearchResult:
    return solve_search(*measured(instance).with_search(solver=Baseline(kind=kind, seed=seed)).args)


@quick
@given(problems(), st.sampled_from(BASELINES))
def test_a_baseline_is_right_and_no_better_than_the_optimum(instance: Instance, kind: str) -> None:
    found, best = baseline(instance, kind), solve_search(*instance.args)
    assert found.solver == kind
    assert len(found.solutions) <= 1
    for solution in found.solutions:
        assert violations(*instance.args, solution) == []
        assert best.objective is not None
        sign = 1 if instance.search.sense == "minimize" else -1
        assert sign * solution.objective >= sign * best.objective
    if kind == "random":
        assert (not found.solutions) == (best.status == "infeasible")


def test_a_baseline_without_an_answer_names_the_conflict_of_its_own_columns() -> None:
    """With the parent's sub-blocks and no-ops alone, the space has fewer columns than the diagram of its formulas."""
    choice = LayerChoice(
        attention=(ParentAttention(), GqaAttention(kv_heads=2)), ffn=(ParentFfn(), NoOpFfn())
    )
    kept = LogicRequirement(
        formula=Not(operand=Is(layer=1, sub_block="ffn", alternatives=("noop",))), where=at(2)
    )
    small = require(ParamsTerm(), "<=", 1)
    result = baseline(plain_instance((choice, choice), requirements=(small, kept)), "noop_only")
    assert result.status == "infeasible" and [item.line for item in result.conflict] == [1]


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


@quick
@given(problems(), st.sampled_from(["uniform", "uniform_width"]))
def test_the_best_of_all_models_that_are_alike_everywhere(instance: Instance, kind: Any) -> None:
    layers = instance.program.spaces["wide"].layers
    widths = kind == "uniform_width"
    sign = 1 if instance.search.sense == "minimize" else -1
    found = baseline(instance, kind)
    for a, f in product(*(set.intersection(*(set(getattr(c, part)) for c in layers)) for part in PARTS)):
        if widths and not {a.kind, f.kind} <= {"parent", "gqa", "mlp"}:
            continue
        names = {"attention": a.name, "ffn": f.name}
        pinned = (*instance.search.requirements, *alike(len(layers), names))
        other = solve_search(*instance.with_search(requirements=pinned).args)
        if other.objective is not None:
            assert found.objective is not None
            assert sign * found.objective <= sign * other.objective
    if widths and all({"parent"} <= {x.kind for x in getattr(c, part)} for c in layers for part in PARTS):
        assert not {c.ffn for s in found.solutions for c in s.layers} & {"noop", "linear"}
        assert not {c.attention for s in found.solutions for c in s.layers} & {"noop", "linear"}


def alike(count: int, names: dict[str, str]) -> list[LogicRequirement]:
    """Every layer has these."""
    return [
        LogicRequirement(formula=Is(layer=i, sub_block=part, alternatives=(names[part],)), where=HERE)
        for part in PARTS
        for i in range(count)
    ]


def test_baselines_that_read_influences_are_solved_where_these_are_measured() -> None:
    limit = require(chat("latency"), "<=", ratio=Fraction(3, 4))
    space = (LayerChoice(attention=ATTENTION, ffn=FFN),) * 4
    instance = plain_instance(space, requirements=(limit,))
    without, with_them = (solve_baselines(*i.args) for i in (instance, measured(instance)))
    assert set(BASELINES) - set(without) == {"block_influence", "angular_run"}
    assert tuple(with_them) == BASELINES
    assert {**with_them, **without} == with_them


EIGHTY = synthetic(seed=1, speedup=Fraction(3, 2))


@pytest.mark.parametrize("kind", BASELINES)
def test_baselines_on_a_model_of_eighty_layers(kind: Any) -> None:
    program, _, costs, scores = measured(Instance(*EIGHTY)).args
    best = solve_search(program, "best", costs, scores)
    search = program.searches["best"].model_copy(update={"solver": Baseline(kind=kind)})
    found = solve_search(program.model_copy(update={"searches": {"best": search}}), "best", costs, scores)
    assert found.status == "feasible"
    assert best.objective is not None
    assert found.solutions[0].objective > 1.05 * best.objective
    blocks = {(c.attention, c.ffn) for c in found.solutions[0].layers}
    if kind in ("uniform", "uniform_width"):
        assert len(blocks) == 1
    if kind in ("block_influence", "angular_run"):
        assert blocks == {("parent", "parent"), ("noop", "noop")}
    if kind == "noop_only":
        assert {name for block in blocks for name in block} <= {"parent", "noop"}
