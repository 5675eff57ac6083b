"""Texts, pieces and their scores."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

from puzzledsl.ir import nodes
from puzzledsl.ir.references import references
from puzzledsl.plan.bld import bld_plan
from puzzledsl.search.score_table import read_score_table
from tests.language.rules import DATA, PIECES, program

CHAT = {"paths": ("c",), "messages": "chat"}
HALF = (Fraction(0), Fraction(1, 2))
SOURCES = {
    'text("a/*.txt", "b.txt")': nodes.TextData(paths=("a/*.txt", "b.txt")),
    'jsonl("f.jsonl", column: body)': nodes.JsonlData(paths=("f.jsonl",), column="body"),
    'jsonl("f.jsonl")': nodes.JsonlData(paths=("f.jsonl",), column="text"),
    'parquet("f", "g", column: body)': nodes.ParquetData(paths=("f", "g"), column="body"),
    'hf("n", split: test, column: "x y")': nodes.HfData(id="n", split="test", column="x y"),
    'hf("n", subset: en, revision: "v1")': nodes.HfData(id="n", split="train", column="text", subset="en", revision="v1"),
    'jsonl("c", messages: chat, loss: all)': nodes.JsonlData(**CHAT),
    'parquet("c", messages: chat, loss: answers)': nodes.ParquetData(**CHAT, loss="answers"),
    'hf("n", messages: chat)': nodes.HfData(id="n", messages="chat"),
    'text("a", part: 0%..50%)': nodes.TextData(paths=("a",), part=HALF),
    'text("a", part: 0..1/2)': nodes.TextData(paths=("a",), part=HALF),
    'text("a", duplicates: drop)': nodes.TextData(paths=("a",), duplicates="drop"),
    'jsonl("a", take: 10M)': nodes.JsonlData(paths=("a",), take=10_000_000),
}  # fmt: skip


@pytest.mark.states(
    "data.text", "data.jsonl", "data.parquet", "data.hf", "data.only",
    "data.messages", "data.loss", "data.part", "data.duplicates", "data.take",
)  # fmt: skip
def test_data(tmp_path: Path) -> None:
    text = "".join(f"data d{i} = {call}\n" for i, call in enumerate(SOURCES))
    found = program(tmp_path, text).data.values()
    assert [each.source for each in found] == [*SOURCES.values()]
    plain = program(tmp_path, 'data d = jsonl("a")\nbld b of w { tokens = 1k }')
    assert plain.data["d"].source.model_dump() == {"kind": "jsonl", "paths": ("a",), "column": "text"}
    assert plain.blds["b"].data == "d"


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
    def bld(train: str) -> tuple[str, tuple[str, ...]]:
        found = program(tmp_path, DATA + f"bld b of w {{ tokens = 0, train = {train} }}").blds["b"]
        return found.mode, found.sub_blocks

    assert bld("attention + ffn") == ("decoupled", ("attention", "ffn"))
    assert bld("attention * ffn") == ("coupled", ("attention", "ffn"))
    assert bld("ffn") == ("decoupled", ("ffn",))
    text = DATA + "bld a of w { tokens = 1k }\nbld c of w { tokens = 1k, train = attention * ffn }"
    found = program(tmp_path, text)
    assert found.blds["a"].tokens == 1000
    made = {(j.layer, j.attention, j.ffn) for j in bld_plan(found, "a")}
    together = {(j.layer, j.attention, j.ffn) for j in bld_plan(found, "c")}
    # parent and noop need no training; a pair does where one of its two does: gqa2, gqa1, linear; mlp96
    assert len(made) == 4 * (3 + 1)
    assert len(together) > 4 * 3 * 1


@pytest.mark.states("bld.heal")
def test_tokens_that_children_are_healed_on(tmp_path: Path) -> None:
    """`tests/healing` has which tokens these are; a text that healing alone reads is needed by the program, too."""
    text = 'data d = text("d.txt")\ndata other = text("o.txt")\n'
    text += "bld b of w { tokens = 0, data = d, heal = 2Ki, heal_data = other }"
    bld = program(tmp_path, text).blds["b"]
    assert (bld.data, bld.heal_tokens, bld.heal_data) == ("d", 2048, "other")
    assert set(references(bld)) == {"w", "d", "other"}


@pytest.mark.states("lr.schedule")
def test_learning_rates(tmp_path: Path) -> None:
    def rate(text: str) -> nodes.Schedule:
        return program(tmp_path, DATA + f"bld b of w {{ tokens = 0, lr = {text} }}").blds["b"].lr

    assert rate("cosine(1e-3, warmup: 10%)") == nodes.Schedule(kind="cosine", peak=1e-3, warmup=0.1)
    assert rate("constant(1e-3, warmup: 10%)") == nodes.Schedule(kind="constant", peak=1e-3, warmup=0.1)
    assert rate("1e-3") == nodes.Schedule(kind="constant", peak=1e-3, warmup=0)


@pytest.mark.states(
    "score.replace-one",
    "score.unit",
    "score.settings",
    "score.runs",
    "score.runs-alone",
    "score.healed",
    "score.healed-alone",
)
def test_scores(tmp_path: Path) -> None:
    text = PIECES + "bld c of w { tokens = 1k, train = attention * ffn }\nsearch s of w { minimize kl }\n"

    def method(of: str, arguments: str) -> nodes.ReplaceOne:
        found = program(tmp_path, text + f"score x of {of} = replace_one({arguments})").scores["x"].method
        assert isinstance(found, nodes.ReplaceOne)
        return found

    metrics = ["kl_divergence", "lm_loss", "cosine"]
    assert [method("b", metric).metric for metric in metrics] == metrics
    accuracy = method("b", 'accuracy("tasks.jsonl")')
    assert (accuracy.metric, accuracy.tasks) == ("accuracy", "tasks.jsonl")
    assert [method(bld, "lm_loss").unit for bld in ("b", "c")] == ["subblock", "block"]
    assert method("b", "lm_loss, unit: block").unit == "block"
    more = method("b", "lm_loss, samples: 4Ki, data: d")
    assert (more.samples, more.data, more.runs, more.healed) == (4096, "d", None, 0)
    both = method("b", "kl_divergence, samples: 4Ki, healed: 2Ki, runs: 2..3")
    assert (both.healed, both.runs) == (2048, (2, 3))


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
