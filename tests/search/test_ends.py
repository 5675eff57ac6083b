"""The model's embedding and head as decisions: what enumeration of all children finds, by programs as users write them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from fractions import Fraction
from itertools import product
from math import ceil
from pathlib import Path
from typing import Any

import pytest

import puzzledsl as pzl
from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.cli.main import run as cli
from puzzledsl.ir.tables import PARENT_ENDS, EndsAssignment, LayerAssignment
from puzzledsl.search.verify.verify import verify
from tests.cases import more
from tests.language.rules import codes, holds, refused

LAYERS, HIDDEN, VOCAB = 2, 64, 4096
EMBEDDINGS, HEADS = ("parent", "parent@q8_0"), ("parent", "parent@q8_0", "parent@q4_0")
BITS = {"parent": Fraction(2), "parent@q8_0": Fraction(34, 32), "parent@q4_0": Fraction(18, 32)}
"""Bytes of a number: bf16, and 32 codes with a scale of two bytes."""
SCORES = {
    ("attention", "gqa2"): 0.11,
    ("attention", "noop"): 0.57,
    ("ffn", "mlp96"): 0.2,
    ("ffn", "noop"): 0.7,
    ("embedding", "parent@q8_0"): 0.013,
    ("head", "parent@q8_0"): 0.031,
    ("head", "parent@q4_0"): 0.087,
}


def program(
    folder: Path, body: str, *, tied: bool, scenario: str = "batch(4, 128 -> 64)", more: str = ""
) -> pzl.Program:
    """A program of a small parent whose head is as large as its layers."""
    text = f"""\
parent p = shape(family: llama, layers: {LAYERS}, hidden: {HIDDEN}, heads: 8, kv_heads: 4, head_dim: 8,
  intermediate: 192, vocab: {VOCAB}, tied: {str(tied).lower()})
hardware h {{ memory = 8MiB, reserve = 1kB, kv_fraction = 100%, bandwidth = 1GB/s, overhead = 5us
  peak {{ bf16 = 165TFLOP/s }}, efficiency {{ bandwidth = 100% }} }}
scenario chat on h = {scenario}
space w of p {{ attention = gqa(kv_heads: 4 | 2) | noop, ffn = mlp(width: 100% | 50%) | noop
  embedding = parent(dtype: full | q8_0), head = parent(dtype: full | q8_0 | q4_0) }}
score kl of w = table("kl.csv")
search s of w {{ minimize kl, {body} }}
{more}"""
    rows = ["layer,attention,ffn,embedding,head,kl"]
    sites = ("attention", "ffn", "embedding", "head")
    rows += [
        f",{','.join(name * (s == site) for s in sites)},{value}" for (site, name), value in SCORES.items()
    ]
    (folder / "kl.csv").write_text("\n".join(rows), "utf-8")
    (folder / "program.pzl").write_text(text, "utf-8")
    return pzl.load(folder / "program.pzl")


def children() -> Iterator[tuple[Any, ...]]:
    """Every child: the choices of its layers, and of its ends behind them."""
    blocks = [
        LayerAssignment(attention=a, ffn=f)
        for a, f in product(("parent", "gqa2", "noop"), ("parent", "mlp96", "noop"))
    ]
    ends = [EndsAssignment(embedding=e, head=h) for e, h in product(EMBEDDINGS, HEADS)]
    for *layers, both in product(*[blocks] * LAYERS, ends):
        yield (*layers, both)


def loss(child: tuple[Any, ...]) -> Fraction:
    """The sum of the scores of a child."""
    return sum(
        (Fraction(str(SCORES.get((site, name), 0))) for choice in child for site, name in choice), Fraction(0)
    )


def bytes_of_ends(embedding: str, head: str, *, tied: bool) -> int:
    """Bytes of the matrices, of which a tied model with one type has one, and of the last norm."""
    matrices = {embedding, head} if tied else (embedding, head)
    return ceil(sum(BITS[name] * VOCAB * HIDDEN for name in matrices) + 2 * HIDDEN)


REQUIREMENTS = [
    "require chat.weights <= 0.8x",
    "require chat.throughput >= 1.6x",
    "require chat.weights <= 700kB, require chat.latency <= 30ms",
    "require chat.tpot <= 0.6x, require head is not parent(dtype: q4_0)",
    "require chat.throughput >= 1.9x, require head is parent(dtype: full) or layers[0].attention is noop",
    "require chat.weights <= 0.9x, require embedding is parent(dtype: q8_0) implies head is parent(dtype: q8_0)",
    "require params <= 0.98x, require chat.weights <= 0.7x",
]


@pytest.mark.states("space.ends", "require.ends", "score.table-ends")
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("body", [*REQUIREMENTS[:2], *more(*REQUIREMENTS[2:])])
def test_the_answer_is_that_of_enumeration(tmp_path: Path, body: str, tied: bool) -> None:
    made = program(tmp_path, body, tied=tied)
    answer = made.solve("s")
    figures = [made.metrics("s", child) for child in children()]
    assert all(each.metrics["kl"] == loss(child) for each, child in zip(figures, children(), strict=True))
    good = [each.objective for each in figures if each.feasible]
    assert answer.status == "optimal" and answer.objective == float(min(good))
    assert answer.ends is not None
    again = made.metrics("s", (*answer.layers, answer.ends))
    assert again.feasible and float(again.objective) == answer.objective


@pytest.mark.states("space.ends-tied", "space.ends-time")
@pytest.mark.parametrize("tied", [True, False])
def test_bytes_are_counted_and_only_the_head_takes_time(tmp_path: Path, tied: bool) -> None:
    made = program(tmp_path, "require chat.weights <= 1x", tied=tied)
    layers = [("parent", "parent")] * LAYERS
    known = {}
    for embedding, head in product(EMBEDDINGS, HEADS):
        known[embedding, head] = made.metrics(
            "s", [*layers, EndsAssignment(embedding=embedding, head=head)]
        ).metrics
    rest = known["parent", "parent"]["chat.weights"] - bytes_of_ends("parent", "parent", tied=tied)
    for (embedding, head), metrics in known.items():
        assert metrics["chat.weights"] == rest + bytes_of_ends(embedding, head, tied=tied)
        second = VOCAB * HIDDEN if tied and embedding != head else 0
        assert metrics["params"] == known["parent", "parent"]["params"] + second
        saved_s = (BITS["parent"] - BITS[head]) * VOCAB * HIDDEN / Fraction(10**9)
        assert abs(known["parent", "parent"]["chat.tpot"] - metrics["chat.tpot"] - saved_s) <= Fraction(
            1, 10**9
        )
    assert made.metrics("s", layers).metrics == known["parent", "parent"]


@pytest.mark.parametrize("tied", [True, False])
def test_automatic_batches_know_the_ends(tmp_path: Path, tied: bool) -> None:
    made = program(
        tmp_path,
        "require chat.throughput >= 1.2x, require chat.batch >= 300",
        tied=tied,
        scenario="batch(auto, 64 -> 8)",
    )
    figures = [made.metrics("s", child) for child in children()]
    good = [each.objective for each in figures if each.feasible]
    assert len({each.batches["chat"] for each in figures}) > 5
    assert made.solve("s").objective == float(min(good))


def test_regrets_are_the_losses_of_enumeration(tmp_path: Path) -> None:
    made = program(tmp_path, "require chat.throughput >= 1.6x", tied=True)
    least = {}
    for child in children():
        if (figures := made.metrics("s", child)).feasible:
            for site, name in child[-1]:
                least[site, name] = min(least.get((site, name), figures.objective), figures.objective)
    best = min(least.values())
    found = {s.sub_block: s for s in made.why("s").sub_blocks if s.sub_block in ("embedding", "head")}
    for site, names in (("embedding", EMBEDDINGS), ("head", HEADS)):
        for regret in found[site].regrets:
            expected = least.get((site, regret.alternative))
            assert regret.alternative in names
            assert regret.at_most == (
                None if expected is None else pytest.approx(float(expected - best), abs=1e-12)
            )


def test_a_frontier_is_that_of_enumeration(tmp_path: Path) -> None:
    made = program(
        tmp_path,
        "require chat.throughput >= 1.1x",
        tied=True,
        more="frontier f of s = sweep(chat.throughput, 1.2x..2x, points: 4)",
    )
    figures = [made.metrics("s", child) for child in children()]
    parent = made.metrics("s", [("parent", "parent")] * LAYERS).metrics["chat.throughput"]
    for point in made.frontier("f").points:
        assert point.ratio is not None
        bound = Fraction(point.ratio).limit_denominator(1000) * parent
        good = [each.objective for each in figures if each.metrics["chat.throughput"] >= bound]
        assert point.result.objective == float(min(good))


def test_the_verifier_refuses_other_ends(tmp_path: Path) -> None:
    made = program(tmp_path, "require chat.weights <= 0.8x", tied=True)
    tables, (solution, *_) = made._session.tables_of("s"), made.solve("s").solutions

    def kinds(*ends: EndsAssignment) -> set[str]:
        other = solution.model_copy(update={"layers": (*solution.of_layers, *ends)})
        return {v.kind for v in verify(tables.program, tables.search, tables.costs, tables.scores, other)}

    assert kinds(solution.ends) == set()
    assert kinds() == kinds(solution.ends, solution.ends) == {"shape"}
    assert kinds(EndsAssignment(embedding="parent@q4_0", head="parent")) == {"choice"}
    assert kinds(PARENT_ENDS) >= {"requirement", "objective", "metric"}


def test_a_head_that_must_be_rounded(tmp_path: Path) -> None:
    text = (program(tmp_path, "require chat.throughput >= 0.9x", tied=True).file).read_text("utf-8")
    (tmp_path / "program.pzl").write_text(
        text.replace("head = parent(dtype: full | q8_0 | q4_0)", "head = parent(dtype: q8_0 | q4_0)"), "utf-8"
    )
    made = pzl.load(tmp_path / "program.pzl")
    answer = made.solve("s")
    assert answer.ends == EndsAssignment(embedding="parent", head="parent@q8_0") and answer.objective == 0.031
    with pytest.raises(ValueError, match="the head may not be 'parent'; it may be parent@q8_0, parent@q4_0"):
        made.metrics("s", [("parent", "parent")] * LAYERS)


def test_commands_name_the_ends(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = program(tmp_path, "require chat.weights <= 0.8x", tied=True).file
    found = {}
    for command in ("show", "solve"):
        assert cli([command, str(file), "--json"]) == 0
        printed = capsys.readouterr().out
        found[command] = json.loads(printed)
    assert found["show"]["spaces"][0]["ends"] == {"embedding": [*EMBEDDINGS], "head": [*HEADS]}
    chosen = found["solve"][0]["solutions"][0]["layers"][-1]
    assert cli(["why", str(file), "s", "head"]) == 0
    assert f"head: {chosen['head']} is chosen" in capsys.readouterr().out
    assert cli(["solve", str(file)]) == 0
    assert f"  head                 {chosen['head']}\n" in capsys.readouterr().out


@pytest.mark.states("score.table-ends")
@pytest.mark.parametrize(
    ("row", "code"),
    [
        (",gqa2,,,parent@q4_0,0.1", "E0512"),
        (",,,,gqa2,0.1", "E0512"),
        (",,,,parent@q4_0,0.5", "E0512"),
        ("", "E0513"),
    ],
)
def test_mistakes_of_a_score_table_are_told(tmp_path: Path, row: str, code: str) -> None:
    made = program(tmp_path, "require chat.weights <= 0.8x", tied=True)
    table = tmp_path / "kl.csv"
    lines = table.read_text("utf-8").splitlines()
    table.write_text("\n".join([*lines, row] if row else lines[:-1]), "utf-8")
    with pytest.raises(DiagnosticError) as caught:
        made.solve("s")
    assert [d.code for d in caught.value.diagnostics] == [code]


OF_V = """\
space v of p { ffn = parent | mlp(width: 96), head = parent(dtype: full | q4_0) }
score x of v = table("x.csv")
"""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        *refused(
            "space.ends",
            ("space v of p { ffn = parent | noop, head = gqa(kv_heads: 2) }", "E0205"),
            ("space v of p { head = 4 }", "E0303"),
            ("space v of p { head = parent(dtype: q4_k) }", "E0305"),
            ("space v of p { ffn = noop | parent\n  head |= parent(dtype: q4_0) }", "E0303"),
            ("space v of p { head = parent, head = parent(dtype: q8_0) }", "E0208"),
        ),
        *refused(
            "space.ends-built",
            (OF_V + "search t of v { minimize x, require chat.memory <= 1GiB }", "E0418"),
            (
                OF_V
                + 'search t of v { minimize x, require params <= 1x }\nexport e of t = gguf("e.gguf", dtype: q4_k_m)',
                "E0418",
            ),
            (
                OF_V
                + 'search t of v { minimize x, require params <= 1x }\nexport e of t = hf("e", runtime: vllm)',
                "E0418",
            ),
            (OF_V + 'search t of v { minimize x, require params <= 1x }\nexport e of t = mlx("e")', "E0418"),
            (
                OF_V.replace("q4_0", "int8")
                + 'search t of v { minimize x, require params <= 1x }\nexport e of t = gguf("e.gguf")',
                "E0418",
            ),
        ),
        *refused(
            "require.ends",
            (OF_V + "search t of v { minimize x, require count(head is parent(dtype: q4_0)) >= 1 }", "E0303"),
            (OF_V + "search t of v { minimize x, require head.params >= 1 }", "E0206"),
            (OF_V + "search t of v { minimize x, require head same as head }", "E0303"),
            (OF_V + "search t of v { minimize x, require head is noop }", "E0205"),
            (OF_V + "search t of v { minimize x, require embedding is parent }", "E0312"),
        ),
    ],
)
def test_it_is_refused(tmp_path: Path, text: str, expected: str) -> None:
    found = codes(tmp_path, text).split()
    assert expected in found and set(found) <= {expected, "E0418"}


@pytest.mark.parametrize(
    "text",
    holds(
        "space.ends", "space v of p { ffn = parent | noop, head = parent, embedding = parent(dtype: full) }"
    ),
)
def test_ends_that_stay_are_no_choice(tmp_path: Path, text: str) -> None:
    assert codes(tmp_path, text) == ""
