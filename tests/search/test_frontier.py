"""A frontier is the search solved at each bound."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import assume, given

from puzzledsl.ir.nodes import CountTerm, LayerChoice, ParamsTerm
from puzzledsl.search.solve import direction, solve_search
from tests.search.instances import (
    ATTENTION,
    FFN,
    KL,
    Instance,
    chat,
    plain_instance,
    problems,
    quick,
    require,
    swept,
)

LAYERS = (LayerChoice(attention=ATTENTION, ffn=FFN),) * 3


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


def test_a_sweep_of_the_required_metric_replaces_its_bound() -> None:
    instance = plain_instance(
        LAYERS,
        requirements=(
            require(chat("throughput"), ">=", ratio="2.17"),
            require(ParamsTerm(), ">=", ratio="0.2"),
        ),
        solutions=3,
    )
    result = swept(instance, chat("throughput"), 1, 3, points=5, times=True)
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
    points = swept(instance, term, -1, 1, points=3).points
    assert [p.result.status for p in points] == ["infeasible", "optimal", "optimal"]
