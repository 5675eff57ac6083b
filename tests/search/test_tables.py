"""Tables that a search needs, and the diagnostics where they are not there."""

from __future__ import annotations

from typing import Any

import pytest

from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.ir.nodes import LayerChoice
from puzzledsl.search.solve import solve_search
from tests.search.instances import ATTENTION, FFN, chat, plain_instance, require

INSTANCE = plain_instance(
    (LayerChoice(attention=ATTENTION, ffn=FFN),) * 2,
    requirements=(require(chat("memory"), "<=", 10**9),),
)


def diagnostics(
    costs: Any = INSTANCE.costs, scores: Any = INSTANCE.scores, source: str = "t.pzl"
) -> list[tuple[str, str]]:
    program = INSTANCE.program.model_copy(update={"source": source})
    with pytest.raises(DiagnosticError) as error:
        solve_search(program, "best", costs, scores)
    return [(d.message, d.help) for d in error.value.diagnostics]


@pytest.mark.parametrize(("path", "quoted"), [("t.pzl", "t.pzl"), ("a b.pzl", "'a b.pzl'")])
def test_missing_tables_say_which_command_makes_them(path: str, quoted: str) -> None:
    costs = INSTANCE.costs.model_copy(update={"scenarios": {}})
    assert diagnostics(costs, {}, path) == [
        ("scores `kl` are not there yet", f"run `pzl score {quoted} kl`"),
        ("costs of scenario `chat` are not there yet", f"run `pzl measure {quoted}`"),
    ]


def test_a_gap_or_an_infinity_in_a_table_is_named() -> None:
    table = INSTANCE.scores["kl"]
    gap = table.model_copy(update={"attention": ({"gqa2": 1.0}, *table.attention[1:])})
    message, help = diagnostics(scores={"kl": gap}, source="a b.pzl")[0]
    assert "layer 0" in message and help.startswith("run `pzl score 'a b.pzl' kl` again")
    infinite = table.model_copy(update={"ffn": ({**table.ffn[0], "noop": float("inf")}, *table.ffn[1:])})
    assert diagnostics(scores={"kl": infinite})[0][0] == "score `kl` of search `best` is not a finite number"
    [chat_costs] = INSTANCE.costs.scenarios["chat"]
    short = chat_costs.model_copy(update={"ffn": ({}, *chat_costs.ffn[1:])})
    costs = INSTANCE.costs.model_copy(update={"scenarios": {"chat": (short,)}})
    assert all("in layer 0" in message for message, _ in diagnostics(costs))
