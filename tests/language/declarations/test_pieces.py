"""Pieces and their scores."""

from __future__ import annotations

from pathlib import Path

import pytest

from puzzledsl.ir import nodes
from puzzledsl.ir.references import references
from tests.language.rules import DATA, PIECES, codes, holds, program, refused


@pytest.mark.parametrize(
    "text",
    [
        *holds("score.table", PIECES + 'score x of b = table("x.csv")'),
    ],
)  # fmt: skip
def test_it_checks(tmp_path: Path, text: str) -> None:
    program(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        *refused("bld.tokens", (DATA + "bld b of w { }", "E0209")),
        *refused("bld.train", (DATA + "bld b of w { tokens = 0, train = attention - ffn }", "E0303")),
        *refused("score.unit", (DATA + "bld b of w { tokens = 0, train = attention * ffn }\nscore x of b = replace_one(kl_divergence, unit: subblock)", "E0215")),
        *refused("score.pieces", ("score x of w = replace_one(kl_divergence)", "E0202")),
        *refused("score.replace-one", (PIECES + "score x of b = replace_one(perplexity)", "E0305")),
    ],
)  # fmt: skip
def test_it_is_refused(tmp_path: Path, text: str, expected: str) -> None:
    assert codes(tmp_path, text) == expected


@pytest.mark.states("bld.train", "bld.tokens")
def test_what_is_trained(tmp_path: Path) -> None:
    def bld(train: str) -> tuple[str, tuple[str, ...]]:
        found = program(tmp_path, DATA + f"bld b of w {{ tokens = 0, train = {train} }}").blds["b"]
        return found.mode, found.sub_blocks

    assert bld("attention + ffn") == ("decoupled", ("attention", "ffn"))
    assert bld("attention * ffn") == ("coupled", ("attention", "ffn"))
    assert bld("attention") == ("decoupled", ("attention",))
    assert bld("ffn") == ("decoupled", ("ffn",))
    assert program(tmp_path, PIECES).blds["b"].tokens == 1000


@pytest.mark.states("bld.train")
def test_how_many_pieces(tmp_path: Path) -> None:
    from puzzledsl.plan.bld import bld_plan

    text = DATA + "bld a of w { tokens = 1k }\nbld c of w { tokens = 1k, train = attention * ffn }"
    found = program(tmp_path, text)
    made = {(j.layer, j.attention, j.ffn) for j in bld_plan(found, "a")}
    together = {(j.layer, j.attention, j.ffn) for j in bld_plan(found, "c")}
    # parent and noop need no training; a pair does where one of its two does: gqa2, gqa1, linear; mlp96
    assert len(made) == 4 * (3 + 1)
    assert len(together) > 4 * 3 * 1


@pytest.mark.states("bld.heal")
def test_tokens_that_children_are_healed_on(tmp_path: Path) -> None:
    """`tests/healing` has which tokens these are; a text that healing alone reads is needed by the program, too."""
    two = 'data d = text("d.txt")\ndata other = text("o.txt")\n'
    bld = program(tmp_path, two + "bld b of w { tokens = 0, data = d, heal = 2Ki, heal_data = other }").blds[
        "b"
    ]
    assert (bld.data, bld.heal_tokens, bld.heal_data) == ("d", 2048, "other")
    assert set(references(bld)) == {"w", "d", "other"}
    mistaken = two + "bld b of w { tokens = 0, data = d, heal = -1, heal_data = w }"
    assert codes(tmp_path, mistaken) == "E0304 E0202"


@pytest.mark.states("lr.schedule")
def test_learning_rates(tmp_path: Path) -> None:
    def rate(text: str) -> nodes.Schedule:
        return program(tmp_path, DATA + f"bld b of w {{ tokens = 0, lr = {text} }}").blds["b"].lr

    assert rate("cosine(1e-3, warmup: 10%)") == nodes.Schedule(kind="cosine", peak=1e-3, warmup=0.1)
    assert rate("cosine(1e-3)") == nodes.Schedule(kind="cosine", peak=1e-3, warmup=0)
    assert rate("constant(1e-3, warmup: 10%)") == nodes.Schedule(kind="constant", peak=1e-3, warmup=0.1)
    assert rate("1e-3") == nodes.Schedule(kind="constant", peak=1e-3, warmup=0)


@pytest.mark.states("score.replace-one", "score.unit", "score.settings")
def test_scores(tmp_path: Path) -> None:
    text = PIECES + "bld c of w { tokens = 1k, train = attention * ffn }\nsearch s of w { minimize kl }\n"

    def method(of: str, arguments: str) -> nodes.ReplaceOne:
        found = program(tmp_path, text + f"score x of {of} = replace_one({arguments})").scores["x"].method
        assert isinstance(found, nodes.ReplaceOne)
        return found

    assert [method("b", m).metric for m in ("kl_divergence", "lm_loss", "cosine")] == [
        "kl_divergence",
        "lm_loss",
        "cosine",
    ]
    accuracy = method("b", 'accuracy("tasks.jsonl")')
    assert (accuracy.metric, accuracy.tasks) == ("accuracy", "tasks.jsonl")
    assert (method("b", "lm_loss").unit, method("c", "lm_loss").unit) == ("subblock", "block")
    assert method("b", "lm_loss, unit: block").unit == "block"
    more = method("b", "lm_loss, samples: 4Ki, data: d")
    assert (more.samples, more.data) == (4096, "d")


@pytest.mark.states("score.runs", "score.runs-alone")
def test_scores_of_runs(tmp_path: Path) -> None:
    def method(arguments: str) -> nodes.ReplaceOne:
        found = program(tmp_path, PIECES + f"score x of b = replace_one({arguments})").scores["x"].method
        assert isinstance(found, nodes.ReplaceOne)
        return found

    assert method("kl_divergence, runs: 2..4").runs == (2, 4)
    assert method("lm_loss, runs: 3..3").runs == (3, 3)
    assert method("kl_divergence").runs is None
    for arguments in (
        "kl_divergence, runs: 1..2",
        "kl_divergence, runs: 2..99",
        'accuracy("tasks.jsonl"), runs: 2..3',
    ):
        assert codes(tmp_path, PIECES + f"score x of b = replace_one({arguments})")


@pytest.mark.states("score.healed", "score.healed-alone")
def test_scores_after_healing(tmp_path: Path) -> None:
    def method(arguments: str) -> nodes.ReplaceOne:
        found = program(tmp_path, PIECES + f"score x of b = replace_one({arguments})").scores["x"].method
        assert isinstance(found, nodes.ReplaceOne)
        return found

    assert method("kl_divergence").healed == 0
    both = method("kl_divergence, samples: 4Ki, healed: 2Ki, runs: 2..3")
    assert (both.healed, both.runs) == (2048, (2, 3))
    assert method("cosine, healed: 512").healed == 512
    for arguments in (
        "kl_divergence, healed: -1",
        "kl_divergence, healed: 2GiB",
        'accuracy("tasks.jsonl"), healed: 4Ki',
    ):
        assert codes(tmp_path, PIECES + f"score x of b = replace_one({arguments})")


@pytest.mark.states("score.table")
def test_score_tables(tmp_path: Path) -> None:
    from puzzledsl.search.score_table import read_score_table

    found = program(tmp_path, "")
    (tmp_path / "kl.csv").write_text(
        "layer,attention,ffn,kl\n,gqa2,,1\n,gqa1,,2\n,linear,,3\n,noop,,4\n,,mlp96,5\n,,noop,6\n2,noop,,7\n"
        "1-2,noop,noop,8\n"
    )
    table = read_score_table(tmp_path / "kl.csv", found.scores["kl"], found.spaces["w"])
    assert [layer["noop"] for layer in table.attention] == [4, 4, 7, 4]
    assert [(run.first, run.length, run.value) for run in table.runs] == [(1, 2, 8)]
