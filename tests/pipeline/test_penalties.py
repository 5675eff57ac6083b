"""Penalties hold a search near a child: what is measured never gets worse, and the table still says what it said of the child."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import pytest

from puzzledsl.ir.tables import LayerAssignment, ScoreTable, Solution
from puzzledsl.pipeline.rounds.rescoring import best_move, penalised, total

CHOICES = ("parent", "gqa1", "noop")
TABLE = ScoreTable(
    score="s",
    metric="kl_divergence",
    samples=1,
    attention=({"gqa1": 0.1, "noop": 0.5}, {"gqa1": -0.2, "noop": 0.3}, {"gqa1": -0.1, "noop": -0.4}),
    ffn=({}, {}, {}),
    offset=0.7,
)


def child(*attention: str) -> Solution:
    layers = tuple(LayerAssignment(attention=name, ffn="parent") for name in attention)
    return Solution(objective=0, layers=layers)


ALL = [child(*names) for names in product(CHOICES, repeat=3)]
OWN = child("noop", "parent", "gqa1")


def changes(answer: Solution) -> int:
    return sum(one != other for one, other in zip(answer.layers, OWN.layers, strict=True))


def solve(table: ScoreTable) -> Solution:
    return min(ALL, key=lambda answer: total(table, answer))


@pytest.mark.parametrize("unit", ["subblock", "block"])
def test_a_penalty_counts_the_choices_that_are_not_the_childs(unit: str) -> None:
    table = TABLE
    if unit == "block":
        pairs = tuple({f"{name}/parent": value for name, value in layer.items()} for layer in TABLE.attention)
        table = TABLE.model_copy(update={"unit": "block", "pairs": pairs, "attention": (), "ffn": ()})
    raised = penalised(table, OWN, 0.25)
    for answer in ALL:
        assert total(raised, answer) == pytest.approx(total(TABLE, answer) + 0.25 * changes(answer))


@pytest.mark.parametrize("truth_per_change", [-0.3, 0.0, 0.1, 0.2, 0.35, 1.0])
def test_what_is_measured_never_gets_worse(truth_per_change: float) -> None:
    def true(answer: Solution) -> float:
        return total(TABLE, answer) + truth_per_change * changes(answer) ** 2

    def judge(answers: Sequence[Solution]) -> list[float]:
        return [true(answer) for answer in answers]

    move = best_move(TABLE, OWN, solve, judge)
    assert (move.before, move.after) == (true(OWN), true(move.solution))
    assert move.after <= min(move.before, true(solve(TABLE)))
    assert solve(move.table).layers == move.solution.layers
    assert total(move.table, OWN) == pytest.approx(total(TABLE, OWN))
