"""Score tables made elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.ir.nodes import LayerChoice, Program
from puzzledsl.ir.tables import RunScore, ScoreTable
from puzzledsl.search.score_table import read_score_table
from puzzledsl.search.solve import solve_search
from tests.search.instances import ATTENTION, FFN, chat, plain_instance, program_of, require

CHOICE = LayerChoice(attention=ATTENTION[:2], ffn=(FFN[0], FFN[3]))
PROGRAM: Program = program_of((CHOICE, CHOICE), (2,))


def read(directory: Path, text: str | None, program: Program = PROGRAM) -> ScoreTable:
    path = directory / "kl.csv"
    if text is not None:
        path.write_text(text)
    return read_score_table(path, program.scores["kl"], program.spaces["wide"])


def mistakes(directory: Path, text: str | None, program: Program = PROGRAM) -> list[str]:
    with pytest.raises(DiagnosticError) as error:
        read(directory, text, program)
    return [f"{d.code} {d.message}" for d in error.value.diagnostics]


def test_sub_blocks_and_rows_for_every_layer(tmp_path: Path) -> None:
    table = read(tmp_path, "layer,attention,ffn,kl\n,gqa2,,0.5\n1,gqa2,,0.25\n0,,linear,1e-3\n1,,linear,2\n")
    assert table.unit == "subblock"
    assert table.attention == ({"gqa2": 0.5}, {"gqa2": 0.25})
    assert table.ffn == ({"linear": 0.001}, {"linear": 2.0})


def test_pairs_in_any_order_of_columns(tmp_path: Path) -> None:
    rows = "\n".join(
        f"{i},{a},{f},{i}.5"
        for i in (0, 1)
        for a, f in (("gqa2", "parent"), ("gqa2", "linear"), ("parent", "linear"))
    )
    table = read(tmp_path, "layer,attention,ffn,score\n" + rows)
    assert table.unit == "block"
    assert table.pairs[1] == {"gqa2/parent": 1.5, "gqa2/linear": 1.5, "parent/linear": 1.5}


def test_every_mistake_is_said_at_once_where_it_is(tmp_path: Path) -> None:
    text = "layer,attention,ffn,kl\n7,gqa2,,1\n0,gpa2,,1\n0,gqa2,,x\n0,gqa2,,nan\n0,,,1\n0,gqa2\n1,gqa2,,1\n1,gqa2,,2\n"
    with pytest.raises(DiagnosticError) as error:
        read(tmp_path, text)
    spans = [(d.span.file, d.span.line, d.span.column) for d in error.value.diagnostics if d.span]
    assert spans == [("kl.csv", line, 1) for line in (2, 3, 4, 5, 6, 7, 9)]
    assert error.value.diagnostics[1].help == "did you mean `gqa2`?"
    assert all(d.secondary[0].span.file == "t.pzl" for d in error.value.diagnostics)


def test_one_mistake_in_many_rows_is_said_once(tmp_path: Path) -> None:
    rows = "".join(f"{layer},,linaer,0.5\n" for layer in (0, 1))
    found = mistakes(tmp_path, "layer,attention,ffn,kl\n,gqa2,,0.5\n" + rows)
    assert found == ["E0512 `kl.csv` line 3 and 1 more: `linaer` is no ffn alternative of the space"]


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


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        ("0-1,noop,,1", "a run of layers is dropped whole: its ffn is `noop`, not ``"),
        ("0-1,gqa2,noop,1", "a run of layers is dropped whole: its attention is `noop`, not `gqa2`"),
        ("0-2,noop,noop,1", "`0-2` is no run of layers 0 to 1"),
        ("1-0,noop,noop,1", "layer `1-0` is not one of 0 to 1"),
        ("0-1,noop,noop,1\n0-1,noop,noop,2", "this run is in line 4 too, with another score"),
    ],
)
def test_wrong_runs(tmp_path: Path, rows: str, problem: str) -> None:
    (found,) = mistakes(tmp_path, "layer,attention,ffn,kl\n,gqa2,,0.5\n,,linear,1\n" + rows)
    assert found.endswith(problem), found


NOT_READ = "E0511 cannot read the score table `kl.csv`: "


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", NOT_READ + "it is empty"),
        ("layer,attention,kl\n", NOT_READ + "there is no `ffn` column"),
        ("layer,attention,ffn\n", NOT_READ + "there is no score column"),
        ("layer,attention,ffn,kl,kl\n", NOT_READ + "column `kl` is there twice"),
        (
            "layer,attention,ffn,kl\n,gqa2,,1\n0,,linear,1\n",
            "E0513 `kl.csv` has no score for ffn `linear` in layer 1",
        ),
        (
            "layer,attention,ffn,kl2,ppl\n,gqa2,,1,2\n,,linear,1,2\n",
            "none of its columns kl2, ppl is named `kl`: did you mean `score kl2`?",
        ),
        (
            "layer,attention,ffn,loss,ppl\n,gqa2,,1,2\n,,linear,1,2\n",
            "none of its columns loss, ppl is named `kl`",
        ),
        (None, "No such file or directory"),
    ],
)
def test_a_table_that_does_not_do(tmp_path: Path, text: str | None, says: str) -> None:
    (found,) = mistakes(tmp_path, text)
    assert found.endswith(says) and found.startswith(("E0511", "E0513"))


@pytest.mark.parametrize(
    ("lacking", "named"),
    [
        ([2], "layer 2"),
        ([2, 3, 4], "layers 2..4"),
        ([0, 2], "layers 0, 2"),
        (range(0, 20, 2), "layers 0..18 by 2"),
    ],
)
def test_what_is_lacking_is_said_with_its_layers(tmp_path: Path, lacking: Sequence[int], named: str) -> None:
    program = program_of((CHOICE,) * 20, (2,))
    pairs = [("gqa2", "parent"), ("parent", "linear"), ("gqa2", "linear")]
    rows = [f"{i},{a},{f},1" for i in range(20) for a, f in pairs if i not in lacking or (a, f) != pairs[-1]]
    [told] = mistakes(tmp_path, "\n".join(["layer,attention,ffn,kl", *rows]), program)
    assert "attention `gqa2` with ffn `linear`" in told and named in told


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
