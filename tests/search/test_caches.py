"""Types of KV caches as decisions of layers: what enumeration of all children finds, by programs as users write them."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from itertools import product
from math import ceil
from pathlib import Path

import pytest

import puzzledsl as pzl
from puzzledsl.ir.tables import LayerAssignment
from puzzledsl.search.verify.verify import verify
from tests.cases import more

LAYERS, HEAD_DIM, SEQUENCES, TOKENS = 3, 32, 4, 192
ATTENTIONS = {
    "parent": (4, Fraction(2)),
    "parent@kv_fp8": (4, Fraction(1)),
    "parent@kv_q8_0": (4, Fraction(34, 32)),
    "gqa2": (2, Fraction(2)),
    "gqa2@kv_q8_0": (2, Fraction(34, 32)),
    "noop": (0, Fraction(0)),
}
"""KV heads and bytes of a cached number."""
SCORES = {
    "parent@kv_fp8": "0.041",
    "parent@kv_q8_0": "0.017",
    "gqa2": "0.11",
    "gqa2@kv_q8_0": "0.125",
    "noop": "0.57",
}
FFNS = {"mlp96": "0.2"}


def program(
    folder: Path, body: str, *, attention: str = "", more: str = "", scenario: str = "batch(4, 128 -> 64)"
) -> pzl.Program:
    """A program of a small parent whose KV cache is as large as its weights, and a table of scores."""
    attention = attention or (
        "parent(kv_cache: full | fp8 | q8_0) | gqa(kv_heads: 2, kv_cache: full | q8_0) | noop"
    )
    text = f"""\
parent p = shape(family: llama, layers: {LAYERS}, hidden: 256, heads: 8, kv_heads: 4, head_dim: {HEAD_DIM},
  intermediate: 192, vocab: 512)
hardware h {{ memory = 8MiB, reserve = 1kB, kv_fraction = 100%, bandwidth = 1GB/s, overhead = 5us, page = 1
  peak {{ bf16 = 165TFLOP/s }}, efficiency {{ bandwidth = 100% }} }}
scenario chat on h = {scenario}
space w of p {{ attention = {attention}, ffn = parent | mlp(width: 50%) }}
score kl of w = table("kl.csv")
search s of w {{ minimize kl, {body} }}
{more}"""
    rows = ["layer,attention,ffn,kl"]
    rows += [f",{name},,{value}" for name, value in SCORES.items()]
    rows += [f",,{name},{value}" for name, value in FFNS.items()]
    (folder / "kl.csv").write_text("\n".join(rows), "utf-8")
    (folder / "program.pzl").write_text(text, "utf-8")
    return pzl.load(folder / "program.pzl")


def children(attentions: tuple[str, ...] = tuple(ATTENTIONS)) -> Iterator[tuple[LayerAssignment, ...]]:
    """Every child."""
    blocks = [LayerAssignment(attention=a, ffn=f) for a, f in product(attentions, ("parent", "mlp96"))]
    yield from product(*[blocks] * LAYERS)


def cache_bytes(child: tuple[LayerAssignment, ...]) -> int:
    """Bytes of keys and values, rounded up by layer."""
    each = (ATTENTIONS[layer.attention] for layer in child)
    return sum(ceil(SEQUENCES * TOKENS * 2 * heads * HEAD_DIM * size) for heads, size in each)


def types(child: tuple[LayerAssignment, ...]) -> set[str]:
    """The types of a child's KV caches."""
    names = (layer.attention for layer in child if layer.attention != "noop")
    return {name.partition("@")[2] for name in names}


REQUIREMENTS = [
    "require chat.kv_cache <= 0.6x",
    "require chat.memory <= 0.75x",
    "require chat.tpot <= 0.8x, require count(attention is parent(kv_cache: fp8)) <= 1",
    "require chat.kv_cache <= 0.55x, require layers[0].attention is parent(kv_cache: full)",
    "require chat.kv_cache <= 0.7x, require distinct(attention) <= 1",
    "require all(l.attention is parent(kv_cache: != full) or l.attention is gqa for l in layers)",
]


@pytest.mark.states("space.kv-cache", "space.kv-cache-costs")
@pytest.mark.parametrize("body", [*REQUIREMENTS[:2], *more(*REQUIREMENTS[2:])])
def test_the_answer_is_that_of_enumeration(tmp_path: Path, body: str) -> None:
    made = program(tmp_path, body)
    answer = made.solve("s")
    good = []
    for child in children():
        figures = made.metrics("s", child)
        assert figures.metrics["chat.kv_cache"] == cache_bytes(child)
        if figures.feasible:
            good.append(figures.objective)
    assert answer.status == "optimal" and answer.objective == float(min(good))


@pytest.mark.states("space.kv-cache-one")
@pytest.mark.parametrize(
    "body",
    [
        "require chat.kv_cache <= 0.75x",
        *more("require chat.kv_cache <= 0.8x, require chat.tpot <= 0.97x"),
    ],
)
def test_children_for_llama_cpp_have_one_type(tmp_path: Path, body: str) -> None:
    attention = "parent(kv_cache: full | q8_0) | gqa(kv_heads: 2, kv_cache: full | q8_0) | noop"
    names = tuple(name for name in ATTENTIONS if "fp8" not in name)
    free = program(tmp_path, body, attention=attention).solve("s")
    made = program(tmp_path, body, attention=attention, more='export x of s = gguf("x.gguf", lower: true)')
    answer = made.solve("s")
    figures = {child: made.metrics("s", child) for child in children(names)}
    assert {len(types(child)) <= 1 for child, each in figures.items() if each.feasible} == {True}
    alike = [
        f.objective
        for child, f in figures.items()
        if len(types(child)) <= 1 and f.metrics["chat.kv_cache"] == cache_bytes(child) and f.feasible
    ]
    assert answer.objective == float(min(alike))
    assert free.objective is not None and answer.objective > free.objective
    tables, (solution, *_) = made._session.tables_of("s"), answer.solutions
    mixed = solution.model_copy(
        update={
            "layers": tuple(
                LayerAssignment(attention=name, ffn="mlp96")
                for name in ("parent", "parent@kv_q8_0", "parent@kv_q8_0")
            )
        }
    )
    kinds = {v.kind for v in verify(tables.program, tables.search, tables.costs, tables.scores, mixed)}
    assert "requirement" in kinds


@pytest.mark.states("space.kv-cache-costs")
def test_automatic_batches_know_the_types(tmp_path: Path) -> None:
    made = program(
        tmp_path, "require chat.throughput >= 1.2x, require chat.batch >= 60", scenario="batch(auto, 64 -> 8)"
    )
    figures = [made.metrics("s", child) for child in children()]
    good = [each.objective for each in figures if each.feasible]
    assert len({each.batches["chat"] for each in figures}) > 5
    assert made.solve("s").objective == float(min(good))
