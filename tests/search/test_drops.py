"""Layers are dropped in the order that the parent's stream gives, and no more of them than the requirements ask."""

from __future__ import annotations

from fractions import Fraction
from itertools import combinations
from typing import Any

import pytest

from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.ir.nodes import And, Baseline, Is, LayerChoice, LogicRequirement, Not, ParamsTerm
from puzzledsl.ir.tables import BlockInfluence, LayerAssignment, ScoreTable
from puzzledsl.search.needs import needed
from puzzledsl.search.solve import solve_search
from puzzledsl.search.tables import PARENT
from tests.search.instances import (
    ATTENTION,
    FFN,
    HERE,
    Instance,
    alone,
    chat,
    measured,
    plain_instance,
    require,
)

DROPPED = LayerAssignment(attention="noop", ffn="noop")
COUNT = 6
SPACE = (LayerChoice(attention=ATTENTION, ffn=FFN),) * COUNT


def drops(instance: Instance, kind: Any) -> set[int] | None:
    """The layers that a baseline drops; None where it finds nothing."""
    result = solve_search(*instance.with_search(solver=Baseline(kind=kind)).args)
    assert result.solver == kind
    assert result.status in ("feasible", "unknown") and result.bound is None, "nothing is proven"
    if not result.solutions:
        return None
    layers = result.solutions[0].layers
    assert set(layers) <= {PARENT, DROPPED}
    return {i for i, layer in enumerate(layers) if layer == DROPPED}


def at_most(ratio: Fraction, seed: int, *more: Any) -> Instance:
    """Six layers of which so much of the parent's latency may be left."""
    limit = require(chat("latency"), "<=", ratio=ratio)
    return measured(plain_instance(SPACE, requirements=(limit, *more)), seed)


def influence_of(instance: Instance) -> BlockInfluence:
    known = instance.scores["kl"].influence
    assert known is not None
    return known


def meets(instance: Instance, dropped: tuple[int, ...]) -> bool:
    """A child with these layers dropped and all others the parent's meets every requirement."""
    fixed = tuple(
        LogicRequirement(
            formula=And(
                operands=tuple(
                    Is(layer=i, sub_block=part, alternatives=("noop" if i in dropped else "parent",))
                    for part in ("attention", "ffn")
                )
            ),
            where=HERE,
        )
        for i in range(COUNT)
    )
    pinned = instance.with_search(requirements=(*instance.search.requirements, *fixed))
    return bool(solve_search(*pinned.args).solutions)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("ratio", [Fraction(1), Fraction(9, 10), Fraction(6, 10), Fraction(2, 10)])
def test_the_least_influential_layers_go_first_and_as_few_as_will_do(seed: int, ratio: Fraction) -> None:
    instance = at_most(ratio, seed)
    values = influence_of(instance).layers
    order = sorted(range(COUNT), key=lambda i: (values[i], i))
    fitting = [k for k in range(COUNT + 1) if meets(instance, tuple(order[:k]))]
    assert drops(instance, "block_influence") == (set(order[: fitting[0]]) if fitting else None)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("ratio", [Fraction(1), Fraction(9, 10), Fraction(6, 10), Fraction(2, 10)])
def test_the_shortest_run_that_will_do_is_the_one_of_least_distance(seed: int, ratio: Fraction) -> None:
    instance = at_most(ratio, seed)
    best: list[tuple[int, ...]] = [()]
    for length, distances in enumerate(influence_of(instance).runs, start=1):
        start = distances.index(min(distances))
        best.append(tuple(range(start, start + length)))
    fitting = [run for run in best if meets(instance, run)]
    assert drops(instance, "angular_run") == (set(fitting[0]) if fitting else None)


def forbidden(layer: int) -> LogicRequirement:
    """This layer may not be dropped."""
    gone = tuple(Is(layer=layer, sub_block=part, alternatives=("noop",)) for part in ("attention", "ffn"))
    return LogicRequirement(formula=Not(operand=And(operands=gone)), where=HERE)


@pytest.mark.parametrize("kind", ["block_influence", "angular_run"])
def test_a_layer_that_a_requirement_keeps_is_passed_over(kind: str) -> None:
    free = drops(at_most(Fraction(6, 10), 0), kind)
    assert free
    for layer in free:
        kept = drops(at_most(Fraction(6, 10), 0, forbidden(layer)), kind)
        assert kept is not None and layer not in kept


def test_no_two_neighbours_are_dropped_where_a_requirement_says_so() -> None:
    apart = [
        LogicRequirement(
            formula=Not(operand=And(operands=(*gone(i), *gone(i + 1)))),
            where=HERE,
        )
        for i in range(COUNT - 1)
    ]
    found = drops(at_most(Fraction(6, 10), 1, *apart), "block_influence")
    assert found and all(abs(a - b) > 1 for a, b in combinations(found, 2))


def gone(layer: int) -> tuple[Is, Is]:
    attention, ffn = (
        Is(layer=layer, sub_block=part, alternatives=("noop",)) for part in ("attention", "ffn")
    )
    return attention, ffn


def test_a_layer_that_may_be_neither_keeps_what_is_nearest_to_the_parent() -> None:
    ends = LayerChoice(attention=ATTENTION[1:3], ffn=FFN[1:3])
    limit = require(chat("latency"), "<=", ratio=Fraction(6, 10))
    instance = measured(plain_instance((ends, *SPACE[1:]), requirements=(limit,)))
    result = solve_search(*instance.with_search(solver=Baseline(kind="block_influence")).args)
    first, *others = result.solutions[0].layers
    assert first == LayerAssignment(attention="gqa2", ffn="mlp16")
    assert set(others) == {PARENT, DROPPED}


@pytest.mark.parametrize("kind", ["block_influence", "angular_run"])
def test_a_table_without_influences_says_what_to_do(kind: Any) -> None:
    instance = at_most(Fraction(1, 2), 0).with_search(solver=Baseline(kind=kind))
    bare = {"kl": instance.scores["kl"].model_copy(update={"influence": None})}
    short = {
        "kl": instance.scores["kl"].model_copy(
            update={"influence": influence_of(measured(plain_instance(SPACE[:2])))}
        )
    }
    for scores in (bare, short):
        with pytest.raises(DiagnosticError) as caught:
            solve_search(instance.program, "best", instance.costs, scores)
        assert [d.code for d in caught.value.diagnostics] == ["E0510"]
    from_elsewhere = plain_instance(SPACE, solver=Baseline(kind=kind))
    with pytest.raises(DiagnosticError) as caught:
        solve_search(*from_elsewhere.args)
    assert [d.code for d in caught.value.diagnostics] == ["E0416"]


def test_a_search_without_a_score_reads_the_influences_of_a_measured_one() -> None:
    instance = at_most(Fraction(1, 2), 2)
    by_params = instance.with_search(objective=alone(ParamsTerm()), sense="maximize")
    assert needed(by_params.program, "best").scores == set()
    dropping = by_params.with_search(solver=Baseline(kind="block_influence"))
    assert needed(dropping.program, "best").scores == {"kl"}
    assert drops(by_params, "block_influence") == drops(instance, "block_influence")


def test_a_table_of_an_earlier_version_loads() -> None:
    table = at_most(Fraction(1), 0).scores["kl"]
    assert ScoreTable.from_json(table.canonical_json()) == table
    old = table.model_copy(update={"influence": None}).canonical_json().replace(' "influence": null,\n', "")
    assert "influence" not in old
    assert ScoreTable.from_json(old).influence is None


def test_influences_have_a_row_for_each_length_of_run() -> None:
    with pytest.raises(ValueError, match="one row for each length up to 2"):
        BlockInfluence(text="t", positions=1, layers=(0.1, 0.2), runs=((0.1, 0.2),))
