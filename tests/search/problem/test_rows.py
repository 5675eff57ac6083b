"""Requirements that are rows, and those that are formulas: which they are changes no answer."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from random import Random
from typing import Any

import pytest

from puzzledsl.alternatives.gqa import GqaAttention
from puzzledsl.alternatives.linear import NoOpAttention
from puzzledsl.alternatives.mlp import MlpFfn
from puzzledsl.alternatives.parent import ParentAttention, ParentFfn
from puzzledsl.ir.nodes import CountTerm, FactTerm, LayerChoice, LinearRequirement, Term
from puzzledsl.search.problem import problem as building
from puzzledsl.search.problem.problem import Builder
from puzzledsl.search.solve import solve_search
from puzzledsl.search.tables import tables_of
from tests.search.instances import KL, Instance, alone, chat, plain_instance, require

CHOICE = LayerChoice(
    attention=(ParentAttention(), GqaAttention(kv_heads=2), NoOpAttention()),
    ffn=(ParentFfn(), MlpFfn(width=16)),
)
FIRST, LAST = tuple(range(6)), tuple(range(3, 9))


def heads(layers: tuple[int, ...]) -> FactTerm:
    """The KV heads of layers."""
    return FactTerm(sub_block="attention", attribute="kv_heads", layers=layers)


def drops(layers: tuple[int, ...]) -> CountTerm:
    """The number of layers without attention."""
    return CountTerm(sub_block="attention", alternatives=("noop",), layers=layers)


def instance(seed: int, *requirements: LinearRequirement) -> Instance:
    """Nine layers with scores of their own."""
    made = plain_instance((CHOICE,) * 9, objective=alone(KL), requirements=requirements)
    rng = Random(seed)
    part = {
        name: tuple(
            {key: rng.randint(1, 99) / 100 if value else 0.0 for key, value in of.items()}
            for of in getattr(made.scores["kl"], name)
        )
        for name in ("attention", "ffn")
    }
    return replace(made, scores={"kl": made.scores["kl"].model_copy(update=part)})


def local(made: Instance) -> list[int | None]:
    """The numbers of the requirements that are formulas; the others are rows."""
    builder = Builder(tables_of(*made.args))
    problem = next(iter(builder.all()))
    found = [formula.requirement for formula in problem.formulas]
    assert {row.requirement for row in problem.rows if row.requirement is not None}.isdisjoint(found)
    return found


@pytest.mark.parametrize(
    ("terms", "bounds", "expected"),
    [
        ([heads(FIRST)], ["=="], [0]),  # 3 ** 6 rows
        ([heads(FIRST)], [">="], [0]),
        ([heads(tuple(range(9)))], [">="], []),  # 3 ** 9 rows
        ([heads(tuple(range(9)))], ["=="], [0]),
        ([heads(tuple(range(9)))], [">=", "<="], [0, 1]),
        ([drops(tuple(range(9)))], ["<="], [0]),  # 2 ** 9 rows
        ([chat("memory")], ["<="], []),
    ],
)
def test_few_rows_of_numbers_are_a_formula(terms: list[Term], bounds: list[Any], expected: list[int]) -> None:
    limit = 10**6 if terms[0] == chat("memory") else 6
    assert local(instance(0, *(require(t, op, limit) for t, op in product(terms, bounds)))) == expected


@pytest.mark.parametrize("seed", range(4))
def test_rows_and_formulas_have_the_same_answers(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = Random(seed)
    made = instance(
        seed,
        require(heads(FIRST), "==", rng.randint(5, 14)),
        require(heads(LAST), ">=", rng.randint(8, 12)),
        require(heads(LAST), "<=", rng.randint(12, 16)),
        require(drops(FIRST), "<=", rng.randint(1, 3)),
    )
    found = solve_search(*made.args)
    assert local(made) == [0, 1, 2, 3]
    for name in ("FEW_LAYERS", "NARROW_ROWS", "OPEN_ROWS"):
        monkeypatch.setattr(building, name, 0)
    assert local(made) == []
    other = solve_search(*made.args)
    assert (found.status, found.objective) == (other.status, other.objective)
    assert [s.layers for s in found.solutions] == [s.layers for s in other.solutions]
