"""A frontier is the search solved at each bound."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from puzzledsl.ir.nodes import CountTerm, CpSat, Frontier, LayerChoice, ParamsTerm
from puzzledsl.search.solve import direction, solve_frontier, solve_search
from tests.cases import cases
from tests.search.instances import ATTENTION, FFN, HERE, KL, Instance, chat, plain_instance, problems, require

quick: Any = settings(deadline=None, max_examples=cases(15), suppress_health_check=list(HealthCheck))
LAYERS = (LayerChoice(attention=ATTENTION, ffn=FFN),) * 3


def sweep(instance: Instance, term: Any, low: str, high: str, points: int, times: bool) -> Any:
    frontier = Frontier(
        name="curve",
        search="best",
        term=term,
        low=Fraction(low),
        high=Fraction(high),
        times_parent=times,
        points=points,
        where=HERE,
    )
    program = instance.program.model_copy(update={"frontiers": {"curve": frontier}})
    return solve_frontier(program, "curve", instance.costs, instance.scores)


@quick
@given(problems(max_layers=3))
def test_each_point_is_the_search_with_one_more_requirement(instance: Instance) -> None:
    result = sweep(instance, chat("latency"), "0", "1/20000000", 3, False)
    own = [
        r
        for r in instance.search.requirements
        if r.kind != "linear" or r.left.terms[0].term != chat("latency")
    ]
    if len(own) != len(instance.search.requirements):
        return
    for point, target in zip(result.points, ("0", "1/40000000", "1/20000000"), strict=True):
        assert point.target == float(Fraction(target))
        more = (*instance.search.requirements, require(chat("latency"), "<=", Fraction(target)))
        alone = solve_search(*instance.with_search(requirements=more).args)
        assert (point.result.status, point.result.objective) == (alone.status, alone.objective)


def test_a_sweep_of_the_required_metric_replaces_its_bound() -> None:
    instance = plain_instance(
        LAYERS,
        requirements=(
            require(chat("throughput"), ">=", ratio="2.17"),
            require(ParamsTerm(), ">=", ratio="0.2"),
        ),
        solver=CpSat(time_s=Fraction(60)),
        solutions=3,
    )
    result = sweep(instance, chat("throughput"), "1", "3", 5, True)
    parent = result.points[0].result.parent_metrics["chat.throughput"]
    objectives = []
    for point, ratio in zip(result.points, (1, 1.5, 2, 2.5, 3), strict=True):
        assert abs(point.target - ratio * parent) <= 1e-9 * point.target
        [solution] = point.result.solutions
        assert solution.metrics["chat.throughput"] >= point.target * (1 - 1e-12)
        objectives.append(solution.objective)
    assert objectives[0] == 0
    assert objectives == sorted(set(objectives))


@pytest.mark.parametrize(
    ("op", "of_the_sweep"), [(">=", ">="), (">", ">="), ("<=", "<="), ("<", "<="), ("==", None)]
)
@pytest.mark.parametrize(
    ("term", "natural"), [(chat("throughput"), ">="), (chat("latency"), "<="), (ParamsTerm(), "<=")]
)
def test_a_sweep_bounds_as_the_search_does(
    op: str, of_the_sweep: str | None, term: Any, natural: str
) -> None:
    """An equation says no side; nor does a bound on something else."""
    search = plain_instance(LAYERS, requirements=(require(KL, "<", 3), require(term, op, 1))).search
    assert direction(search, term) == (of_the_sweep or natural)


def test_points_without_a_child_are_crosses_on_the_axis() -> None:
    term = CountTerm(sub_block="ffn", alternatives=("noop",), layers=(0, 1, 2))
    instance = plain_instance(LAYERS, requirements=(require(term, "<=", 3),))
    program = instance.program.model_copy(
        update={
            "frontiers": {
                "curve": Frontier(
                    name="curve",
                    search="best",
                    term=term,
                    low=Fraction(-1),
                    high=Fraction(1),
                    times_parent=False,
                    points=3,
                    where=HERE,
                )
            }
        }
    )
    result = solve_frontier(program, "curve", instance.costs, instance.scores)
    assert [p.result.status for p in result.points] == ["infeasible", "optimal", "optimal"]
