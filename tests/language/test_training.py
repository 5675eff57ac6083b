"""Mixes of texts, pieces to train, and tables of scores."""

from pathlib import Path

import pytest

from puzzledsl.ir import nodes
from puzzledsl.plan.bld import bld_plan
from puzzledsl.search.score_table import read_score_table
from tests.language.rules import DATA, PIECES, program


@pytest.mark.states("data.mix", "data.mix-order")
def test_mixes(tmp_path: Path) -> None:
    texts = 'data a = text("a")\ndata b = jsonl("b")\nparam share: Ratio = 30%\n'

    def parts(text: str, **settings: str) -> list[tuple[str, int, str]]:
        source = program(tmp_path, f"{texts}data d = {text}", **settings).data["d"].source
        assert isinstance(source, nodes.MixData)
        return [(part.name, part.weight, part.source.kind) for part in source.parts]

    assert parts("mix(a: 2, b: 1)") == [("a", 2, "text"), ("b", 1, "jsonl")]
    assert parts("mix(b: 50%, a: 150%)") == [("b", 1, "jsonl"), ("a", 3, "text")]
    assert parts("mix(a: 1 - share, b: share)") == [("a", 7, "text"), ("b", 3, "jsonl")]
    assert parts("mix(a: 1 - share, b: share)", share="0") == [("a", 1, "text")]
    assert parts("mix(a, b)") == [("a", 1, "text"), ("b", 1, "jsonl")]
    assert parts("mix(m: 1, a: 1)\ndata m = mix(a: 2, b: 1)") == [("a", 5, "text"), ("b", 1, "jsonl")]
    (tmp_path / "texts.pzl").write_text(f'{texts}data d = mix(a: 1, b: 2)\ndata c = text("c")')
    found = program(tmp_path, 'use "texts.pzl" (d)\nbld x of w { tokens = 0, data = d }')
    assert set(found.data) == {"a", "b", "d"}, "a mix of another file brings its parts"


@pytest.mark.states("bld.train", "bld.tokens")
def test_what_is_trained(tmp_path: Path) -> None:
    text = DATA + "bld a of w { tokens = 1k }\nbld c of w { tokens = 1k, train = attention * ffn }"
    found = program(tmp_path, text)
    made = {(j.layer, j.attention, j.ffn) for j in bld_plan(found, "a")}
    together = {(j.layer, j.attention, j.ffn) for j in bld_plan(found, "c")}
    # parent and noop need no training; a pair does where one of its two does: gqa2, gqa1, linear; mlp96
    assert len(made) == 4 * (3 + 1)
    assert len(together) > 4 * 3 * 1


@pytest.mark.states("score.table")
def test_score_tables(tmp_path: Path) -> None:
    found = program(tmp_path, PIECES + 'score x of b = table("x.csv")')
    (tmp_path / "kl.csv").write_text(
        "layer,attention,ffn,kl\n,gqa2,,1\n,gqa1,,2\n,linear,,3\n,noop,,4\n,,mlp96,5\n,,noop,6\n2,noop,,7\n"
        "1-2,noop,noop,8\n"
    )
    table = read_score_table(tmp_path / "kl.csv", found.scores["kl"], found.spaces["w"])
    assert [layer["noop"] for layer in table.attention] == [4, 4, 7, 4]
    assert [(run.first, run.length, run.value) for run in table.runs] == [(1, 2, 8)]
