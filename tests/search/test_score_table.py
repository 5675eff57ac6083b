"""Score tables made elsewhere."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.ir.nodes import LayerChoice, Program
from puzzledsl.ir.tables import RunScore, ScoreTable
from puzzledsl.search.score_table import read_score_table
from puzzledsl.search.solve import solve_search
from tests.goldens import assert_text, refusal
from tests.search.instances import ATTENTION, FFN, chat, plain_instance, program_of, require

CHOICE = LayerChoice(attention=ATTENTION[:2], ffn=(FFN[0], FFN[3]))
PROGRAM: Program = program_of((CHOICE, CHOICE), (2,))


def read(directory: Path, text: str | None, program: Program = PROGRAM) -> ScoreTable:
    path = directory / "kl.csv"
    if text is not None:
        path.write_text(text)
    return read_score_table(path, program.scores["kl"], program.spaces["wide"])


def test_sub_blocks_and_rows_for_every_layer(tmp_path: Path) -> None:
    table = read(tmp_path, "layer,attention,ffn,kl\n,gqa2,,0.5\n1,gqa2,,0.25\n0,,linear,1e-3\n1,,linear,2\n")
    assert table.unit == "subblock"
    assert table.attention == ({"gqa2": 0.5}, {"gqa2": 0.25})
    assert table.ffn == ({"linear": 0.001}, {"linear": 2.0})


@pytest.mark.parametrize(
    "text",
    [
        # of a larger space
        "layer,attention,ffn,kl\n,gqa2,,0.5\n,gqa1,,0.7\n,,mlp99,1\n,,linear,1\n",
        # scores and costs in one file
        "layer,attention,ffn,params,batch,kl,chat.memory[bytes]\n,,,9,,,1\n,gqa2,,5,2,0.5,1\n,gqa2,,5,4,0.5,2\n"
        ",,linear,5,2,1,1\n,,linear,5,4,1,2\n,parent,,5,2,,1\n",
    ],
)
def test_a_table_may_have_more_than_it_needs(tmp_path: Path, text: str) -> None:
    table = read(tmp_path, text)
    assert (table.attention, table.ffn) == (({"gqa2": 0.5},) * 2, ({"linear": 1.0},) * 2)


def test_a_pair_overrules_the_sum_of_its_parts(tmp_path: Path) -> None:
    table = read(tmp_path, "layer,attention,ffn,kl\n,gqa2,,0.5\n,,linear,1\n1,gqa2,linear,1.25\n")
    assert table.unit == "block"
    assert table.pairs[0]["gqa2/linear"] == 1.5
    assert table.pairs[1] == {"parent/linear": 1.0, "gqa2/parent": 0.5, "gqa2/linear": 1.25}


def test_runs_of_layers(tmp_path: Path) -> None:
    head = "layer,attention,ffn,kl\n,gqa2,,0.5\n,,linear,1\n"
    assert not read(tmp_path, head).runs
    assert read(tmp_path, head + "0-1,noop,noop,0.25\n 0 - 1 ,noop,noop,0.25\n").runs == (
        RunScore(first=0, length=2, value=0.25),
    )


HEAD, WHOLE = "layer,attention,ffn,kl\n", "layer,attention,ffn,kl\n,gqa2,,0.5\n,,linear,1\n"
PAIRS = [("gqa2", "parent"), ("parent", "linear"), ("gqa2", "linear")]


def without_last(lacking: Sequence[int]) -> str:
    """A table of pairs in twenty layers, of which some lack the last pair."""
    rows = [(i, pair) for i in range(20) for pair in PAIRS if i not in lacking or pair != PAIRS[-1]]
    return HEAD + "\n".join(f"{i},{a},{f},1" for i, (a, f) in rows)


def test_mistakes_are_those_of_the_golden(tmp_path: Path) -> None:
    """Each is told at once, where it is; one in many rows is told once."""
    runs = ("noop,,1", "gqa2,noop,1"), ("noop,noop,1",)
    tables: list[str | None] = [
        HEAD + "7,gqa2,,1\n0,gpa2,,1\n0,gqa2,,x\n0,gqa2,,nan\n0,,,1\n0,gqa2\n1,gqa2,,1\n1,gqa2,,2\n",
        HEAD + ",gqa2,,0.5\n0,,linaer,0.5\n1,,linaer,0.5\n",
        *(f"{WHOLE}0-1,{run}" for run in runs[0]),
        *(f"{WHOLE}{layers},{run}" for layers in ("0-2", "1-0") for run in runs[1]),
        WHOLE + "0-1,noop,noop,1\n0-1,noop,noop,2",
        *("", "layer,attention,kl\n", "layer,attention,ffn\n", "layer,attention,ffn,kl,kl\n"),
        HEAD + ",gqa2,,1\n0,,linear,1\n",
        *(f"layer,attention,ffn,{name},ppl\n,gqa2,,1,2\n,,linear,1,2\n" for name in ("kl2", "loss")),
        None,
    ]
    large = program_of((CHOICE,) * 20, (2,))
    cases = [(text, PROGRAM) for text in tables]
    cases += [(without_last(layers), large) for layers in ([2], [2, 3, 4], [0, 2], range(0, 20, 2))]
    told = []
    for text, program in cases:
        (tmp_path / "kl.csv").unlink(missing_ok=True)
        told.append(refusal(partial(read, tmp_path, text, program)))
    assert_text(Path(__file__).with_name("score_tables.txt"), "\n".join(told))


# ---------------------------------------------------------------- tables that a search needs


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
