"""Score tables made elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from puzzledsl.diagnostics import DiagnosticError
from puzzledsl.ir.alternatives import GqaAttention, LinearFfn, ParentAttention, ParentFfn
from puzzledsl.ir.nodes import LayerChoice, Program
from puzzledsl.ir.tables import ScoreTable
from puzzledsl.search.score_table import read_score_table
from tests.search.instances import program_of

CHOICE = LayerChoice(attention=(ParentAttention(), GqaAttention(kv_heads=2)), ffn=(ParentFfn(), LinearFfn()))
PROGRAM: Program = program_of((CHOICE, CHOICE), (2,))


def read(directory: Path, text: str) -> ScoreTable:
    path = directory / "kl.csv"
    path.write_text(text)
    return read_score_table(path, PROGRAM.scores["kl"], PROGRAM.spaces["wide"])


def mistakes(directory: Path, text: str) -> list[str]:
    with pytest.raises(DiagnosticError) as error:
        read(directory, text)
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


def test_every_mistake_is_said_at_once(tmp_path: Path) -> None:
    text = "layer,attention,ffn,kl\n7,gqa2,,1\n0,gpa2,,1\n0,gqa2,,x\n0,gqa2,,nan\n0,,,1\n0,gqa2\n1,gqa2,,1\n1,gqa2,,2\n"
    found = mistakes(tmp_path, text)
    assert [f.split(":")[0] for f in found] == [f"E0512 `kl.csv` line {n}" for n in (2, 3, 4, 5, 6, 7, 9)]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "E0511 cannot read the score table `kl.csv`: it is empty"),
        ("layer,attention,kl\n", "E0511 cannot read the score table `kl.csv`: there is no `ffn` column"),
        ("layer,attention,ffn\n", "E0511 cannot read the score table `kl.csv`: there is no score column"),
        (
            "layer,attention,ffn,kl,kl\n",
            "E0511 cannot read the score table `kl.csv`: a column is there twice",
        ),
        (
            "layer,attention,ffn,kl\n,gqa2,,1\n0,,linear,1\n",
            "E0513 `kl.csv` has no score for layer 1 ffn `linear`",
        ),
    ],
)
def test_a_table_that_does_not_do(tmp_path: Path, text: str, says: str) -> None:
    assert mistakes(tmp_path, text) == [says]


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DiagnosticError) as error:
        read_score_table(tmp_path / "no.csv", PROGRAM.scores["kl"], PROGRAM.spaces["wide"])
    assert [d.code for d in error.value.diagnostics] == ["E0511"]
