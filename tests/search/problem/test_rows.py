"""Requirements that are rows, and those that are formulas: which they are changes no answer. Sums in rows are exact."""

from dataclasses import replace
from random import Random

import numpy as np
import pytest

from puzzledsl.ir.nodes import CountTerm, FactTerm, LayerChoice, LinearRequirement
from puzzledsl.search.problem import problem as building
from puzzledsl.search.problem.metrics import combined
from puzzledsl.search.problem.problem import Builder
from puzzledsl.search.solve import solve_search
from puzzledsl.search.tables import tables_of
from tests.search.instances import ATTENTION, FFN, KL, Instance, alone, plain_instance, require

FIRST, LAST = tuple(range(6)), tuple(range(3, 9))
CHOICE = LayerChoice(attention=(*ATTENTION[:2], ATTENTION[4]), ffn=FFN[:2])


def heads(layers: tuple[int, ...]) -> FactTerm:
    return FactTerm(sub_block="attention", attribute="kv_heads", layers=layers)


def drops(layers: tuple[int, ...]) -> CountTerm:
    return CountTerm(sub_block="attention", alternatives=("noop",), layers=layers)


def instance(seed: int, *requirements: LinearRequirement) -> Instance:
    """Nine layers with scores of their own."""
    made = plain_instance((CHOICE,) * 9, objective=alone(KL), requirements=requirements)
    rng = Random(seed)
    table = made.scores["kl"]
    part = {
        name: tuple(
            {key: rng.randint(1, 99) / 100 if value else 0.0 for key, value in of.items()} for of in values
        )
        for name, values in (("attention", table.attention), ("ffn", table.ffn))
    }
    return replace(made, scores={"kl": table.model_copy(update=part)})


def local(made: Instance) -> list[int | None]:
    """The numbers of the requirements that are formulas; the others are rows."""
    problem = next(iter(Builder(tables_of(*made.args)).all()))
    found = [formula.requirement for formula in problem.formulas]
    assert {row.requirement for row in problem.rows if row.requirement is not None}.isdisjoint(found)
    return found


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


@pytest.mark.parametrize("factor", [1, -7, 2**62, 10**19, -(10**25)])
@pytest.mark.parametrize("values", [[], [0, 0, 0], [0, 3, -5], [2**40, -(2**40)]])
def test_sums_of_products_that_int64_cannot_hold_are_exact(values: list[int], factor: int) -> None:
    found = combined([(factor, np.array(values, dtype=np.int64)), (3, np.array(values, dtype=object))])
    assert [int(value) for value in found] == [value * (factor + 3) for value in values]
