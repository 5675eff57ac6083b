"""Types of the embedding, the head and KV caches as decisions: what enumeration finds, by programs as users write them."""

import json
from collections.abc import Iterator, Mapping
from fractions import Fraction
from itertools import product
from math import ceil
from pathlib import Path
from typing import Any

import pytest

import puzzledsl as pzl
from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.cli.main import run as cli
from puzzledsl.ir.tables import PARENT_ENDS, EndsAssignment, LayerAssignment, Solution
from puzzledsl.search.verify import verify
from tests.cases import more
from tests.language.rules import codes, holds, refused

SITES = ("attention", "ffn", "embedding", "head")
PARENT = LayerAssignment(attention="parent", ffn="parent")


def program(
    folder: Path,
    parent: str,
    space: str,
    scores: Mapping[tuple[str, str], object],
    body: str,
    *,
    scenario: str = "batch(4, 128 -> 64)",
    more: str = "",
) -> pzl.Program:
    """A program with a table of scores, by site and alternative."""
    text = f"""\
parent p = shape(family: llama, {parent})
hardware h {{ memory = 8MiB, reserve = 1kB, kv_fraction = 100%, bandwidth = 1GB/s, overhead = 5us, page = 1
  peak {{ bf16 = 165TFLOP/s }}, efficiency {{ bandwidth = 100% }} }}
scenario chat on h = {scenario}
space w of p {{ {space} }}
score kl of w = table("kl.csv")
search s of w {{ minimize kl, {body} }}
{more}"""
    rows = [f",{','.join(name * (s == site) for s in SITES)},{kl}" for (site, name), kl in scores.items()]
    (folder / "kl.csv").write_text("\n".join(["layer,attention,ffn,embedding,head,kl", *rows]), "utf-8")
    (folder / "program.pzl").write_text(text, "utf-8")
    return pzl.load(folder / "program.pzl")


def all_layers(attentions: tuple[str, ...], ffns: tuple[str, ...], layers: int) -> Iterator[tuple[Any, ...]]:
    blocks = [LayerAssignment(attention=a, ffn=f) for a, f in product(attentions, ffns)]
    yield from product(blocks, repeat=layers)


def figures_of(made: pzl.Program, children: Iterator[tuple[Any, ...]]) -> dict[tuple[Any, ...], Any]:
    return {child: made.metrics("s", child) for child in children}


def best(figures: Mapping[Any, Any]) -> float:
    """The least objective of a child that is feasible."""
    return float(min(each.objective for each in figures.values() if each.feasible))


def kinds(made: pzl.Program, solution: Solution, *layers: Any) -> set[str]:
    """The verifier's complaints about other choices."""
    tables, other = made._session.tables_of("s"), solution.model_copy(update={"layers": layers})
    return {v.kind for v in verify(tables.program, tables.search, tables.costs, tables.scores, other)}


# ---------------------------------------------------------------- the ends

LAYERS, HIDDEN, VOCAB = 2, 64, 4096
EMBEDDINGS, HEADS = ("parent", "parent@q8_0"), ("parent", "parent@q8_0", "parent@q4_0")
ENDS = [EndsAssignment(embedding=e, head=h) for e, h in product(EMBEDDINGS, HEADS)]
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


def with_ends(
    folder: Path, body: str, *, tied: bool = True, head: str = "full | q8_0 | q4_0", **given: str
) -> pzl.Program:
    """A program of a small parent whose head is as large as its layers."""
    parent = f"layers: {LAYERS}, hidden: {HIDDEN}, heads: 8, kv_heads: 4, head_dim: 8, intermediate: 192, vocab: {VOCAB}"
    space = f"""attention = gqa(kv_heads: 4 | 2) | noop, ffn = mlp(width: 100% | 50%) | noop
  embedding = parent(dtype: full | q8_0), head = parent(dtype: {head})"""
    return program(folder, f"{parent}, tied: {str(tied).lower()}", space, SCORES, body, **given)


def with_all_ends() -> Iterator[tuple[Any, ...]]:
    """Every child: the choices of its layers, and of its ends behind them."""
    for layers in all_layers(("parent", "gqa2", "noop"), ("parent", "mlp96", "noop"), LAYERS):
        yield from ((*layers, ends) for ends in ENDS)


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
    made = with_ends(tmp_path, body, tied=tied)
    answer, figures = made.solve("s"), figures_of(made, with_all_ends())
    for child, each in figures.items():
        losses = [SCORES.get((site, name), 0) for choice in child for site, name in choice]
        assert each.metrics["kl"] == sum(Fraction(str(loss)) for loss in losses)
    assert answer.status == "optimal" and answer.objective == best(figures)
    assert answer.ends is not None
    again = made.metrics("s", (*answer.layers, answer.ends))
    assert again.feasible and float(again.objective) == answer.objective


@pytest.mark.states("space.ends-tied", "space.ends-time")
@pytest.mark.parametrize("tied", [True, False])
def test_bytes_are_counted_and_only_the_head_takes_time(tmp_path: Path, tied: bool) -> None:
    """A tied model whose ends have one type has one matrix."""
    made, layers = with_ends(tmp_path, "require chat.weights <= 1x", tied=tied), (PARENT,) * LAYERS

    def bytes_of(ends: EndsAssignment) -> int:
        matrices = {ends.embedding, ends.head} if tied else (ends.embedding, ends.head)
        return ceil(sum(BITS[name] * VOCAB * HIDDEN for name in matrices))

    own = made.metrics("s", (*layers, PARENT_ENDS)).metrics
    for ends in ENDS:
        metrics = made.metrics("s", (*layers, ends)).metrics
        assert metrics["chat.weights"] - own["chat.weights"] == bytes_of(ends) - bytes_of(PARENT_ENDS)
        second = VOCAB * HIDDEN if tied and ends.embedding != ends.head else 0
        assert metrics["params"] == own["params"] + second
        saved_s = (BITS["parent"] - BITS[ends.head]) * VOCAB * HIDDEN / Fraction(10**9)
        assert abs(own["chat.tpot"] - metrics["chat.tpot"] - saved_s) <= Fraction(1, 10**9)
    assert made.metrics("s", layers).metrics == own


def test_regrets_are_the_losses_of_enumeration(tmp_path: Path) -> None:
    made = with_ends(tmp_path, "require chat.throughput >= 1.6x")
    least: dict[tuple[str, str], Fraction] = {}
    for child, figures in figures_of(made, with_all_ends()).items():
        for key in child[-1] if figures.feasible else ():
            least[key] = min(least.get(key, figures.objective), figures.objective)
    optimum = min(least.values())
    found = {s.sub_block: s for s in made.why("s").sub_blocks if s.sub_block in ("embedding", "head")}
    for site, names in (("embedding", EMBEDDINGS), ("head", HEADS)):
        for regret in found[site].regrets:
            expected = least.get((site, regret.alternative))
            assert regret.alternative in names
            loss = None if expected is None else pytest.approx(float(expected - optimum), abs=1e-12)
            assert regret.at_most == loss


def test_the_verifier_refuses_other_ends(tmp_path: Path) -> None:
    made = with_ends(tmp_path, "require chat.weights <= 0.8x")
    solution, wrong = made.solve("s").solutions[0], EndsAssignment(embedding="parent@q4_0", head="parent")
    layers, ends = solution.of_layers, solution.ends
    assert kinds(made, solution, *layers, ends) == set()
    assert kinds(made, solution, *layers) == kinds(made, solution, *layers, ends, ends) == {"shape"}
    assert kinds(made, solution, *layers, wrong) == {"choice"}
    assert kinds(made, solution, *layers, PARENT_ENDS) >= {"requirement", "objective", "metric"}


def test_a_head_that_must_be_rounded(tmp_path: Path) -> None:
    made = with_ends(tmp_path, "require chat.throughput >= 0.9x", head="q8_0 | q4_0")
    answer = made.solve("s")
    assert answer.ends == EndsAssignment(embedding="parent", head="parent@q8_0") and answer.objective == 0.031
    with pytest.raises(ValueError, match="the head may not be 'parent'; it may be parent@q8_0, parent@q4_0"):
        made.metrics("s", (PARENT,) * LAYERS)


def test_commands_name_the_ends(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = str(with_ends(tmp_path, "require chat.weights <= 0.8x").file)

    def printed(*command: str) -> str:
        assert cli([*command]) == 0
        return capsys.readouterr().out

    shown, solved = (json.loads(printed(command, file, "--json")) for command in ("show", "solve"))
    assert shown["spaces"][0]["ends"] == {"embedding": [*EMBEDDINGS], "head": [*HEADS]}
    head = solved[0]["solutions"][0]["layers"][-1]["head"]
    assert f"head: {head} is chosen" in printed("why", file, "s", "head")
    assert f"  head                 {head}\n" in printed("solve", file)


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
    made, table = with_ends(tmp_path, "require chat.weights <= 0.8x"), tmp_path / "kl.csv"
    lines = table.read_text("utf-8").splitlines()
    table.write_text("\n".join([*lines, row] if row else lines[:-1]), "utf-8")
    with pytest.raises(DiagnosticError) as caught:
        made.solve("s")
    assert [d.code for d in caught.value.diagnostics] == [code]


OF_V = """\
space v of p { ffn = parent | mlp(width: 96), head = parent(dtype: full | q4_0) }
score x of v = table("x.csv")
search t of v { minimize x, require """
EXPORTED = OF_V + "params <= 1x }\nexport e of t = "


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
            (OF_V + "chat.memory <= 1GiB }", "E0418"),
            (EXPORTED + 'gguf("e.gguf", dtype: q4_k_m)', "E0418"),
            (EXPORTED + 'hf("e", runtime: vllm)', "E0418"),
            (EXPORTED + 'mlx("e")', "E0418"),
            (EXPORTED.replace("q4_0", "int8") + 'gguf("e.gguf")', "E0418"),
        ),
        *refused(
            "require.ends",
            (OF_V + "count(head is parent(dtype: q4_0)) >= 1 }", "E0303"),
            (OF_V + "head.params >= 1 }", "E0206"),
            (OF_V + "head same as head }", "E0303"),
            (OF_V + "head is noop }", "E0205"),
            (OF_V + "embedding is parent }", "E0312"),
        ),
    ],
)
def test_it_is_refused(tmp_path: Path, text: str, expected: str) -> None:
    found = codes(tmp_path, text).split()
    assert expected in found and set(found) <= {expected, "E0418"}


STAYING = "space v of p { ffn = parent | noop, head = parent, embedding = parent(dtype: full) }"


@pytest.mark.parametrize("text", holds("space.ends", STAYING))
def test_ends_that_stay_are_no_choice(tmp_path: Path, text: str) -> None:
    assert codes(tmp_path, text) == ""


# ---------------------------------------------------------------- KV caches

CACHES = {
    "parent": (4, Fraction(2), None),
    "parent@kv_fp8": (4, Fraction(1), "0.041"),
    "parent@kv_q8_0": (4, Fraction(34, 32), "0.017"),
    "gqa2": (2, Fraction(2), "0.11"),
    "gqa2@kv_q8_0": (2, Fraction(34, 32), "0.125"),
    "noop": (0, Fraction(0), "0.57"),
}
"""KV heads, bytes of a cached number, and score."""
ANY = "parent(kv_cache: full | fp8 | q8_0) | gqa(kv_heads: 2, kv_cache: full | q8_0) | noop"
NO_FP8 = "parent(kv_cache: full | q8_0) | gqa(kv_heads: 2, kv_cache: full | q8_0) | noop"


def with_caches(folder: Path, body: str, *, attention: str = ANY, **given: str) -> pzl.Program:
    """A program of a small parent whose KV cache is as large as its weights."""
    parent = "layers: 2, hidden: 256, heads: 8, kv_heads: 4, head_dim: 32, intermediate: 192, vocab: 512"
    scores = {("attention", name): kl for name, (_, _, kl) in CACHES.items() if kl} | {
        ("ffn", "mlp96"): "0.2"
    }
    return program(
        folder, parent, f"attention = {attention}, ffn = parent | mlp(width: 50%)", scores, body, **given
    )


def with_all_caches(but: str = "none") -> Iterator[tuple[LayerAssignment, ...]]:
    return all_layers(tuple(name for name in CACHES if but not in name), ("parent", "mlp96"), LAYERS)


def cache_bytes(child: tuple[LayerAssignment, ...]) -> int:
    """Bytes of keys and values of 4 sequences of 192 tokens, rounded up by layer."""
    each = (CACHES[layer.attention] for layer in child)
    return sum(ceil(4 * 192 * 2 * heads * 32 * size) for heads, size, _ in each)


REQUIREMENTS_OF_CACHES = [
    "require chat.kv_cache <= 0.6x",
    "require chat.memory <= 0.75x",
    "require chat.tpot <= 0.8x, require count(attention is parent(kv_cache: fp8)) <= 1",
    "require chat.kv_cache <= 0.55x, require layers[0].attention is parent(kv_cache: full)",
    "require chat.kv_cache <= 0.7x, require distinct(attention) <= 1",
    "require all(l.attention is parent(kv_cache: != full) or l.attention is gqa for l in layers)",
]


@pytest.mark.states("space.kv-cache", "space.kv-cache-costs")
@pytest.mark.parametrize("body", [*REQUIREMENTS_OF_CACHES[:2], *more(*REQUIREMENTS_OF_CACHES[2:])])
def test_with_caches_the_answer_is_that_of_enumeration(tmp_path: Path, body: str) -> None:
    made = with_caches(tmp_path, body)
    answer, figures = made.solve("s"), figures_of(made, with_all_caches())
    assert all(each.metrics["chat.kv_cache"] == cache_bytes(child) for child, each in figures.items())
    assert answer.status == "optimal" and answer.objective == best(figures)


@pytest.mark.states("space.kv-cache-one")
@pytest.mark.parametrize(
    "body",
    ["require chat.kv_cache <= 0.78x", *more("require chat.kv_cache <= 0.8x, require chat.tpot <= 0.97x")],
)
def test_children_for_llama_cpp_have_one_type(tmp_path: Path, body: str) -> None:
    free = with_caches(tmp_path, body, attention=NO_FP8).solve("s")
    made = with_caches(tmp_path, body, attention=NO_FP8, more='export x of s = gguf("x.gguf", lower: true)')
    answer, figures = made.solve("s"), figures_of(made, with_all_caches(but="fp8"))
    for child, each in figures.items():
        names = {layer.attention for layer in child if layer.attention != "noop"}
        assert not each.feasible or len({name.partition("@")[2] for name in names}) <= 1
    assert answer.objective == best(figures)
    assert free.objective is not None and answer.objective > free.objective
    mixed = [LayerAssignment(attention=f"parent{t}", ffn="mlp96") for t in ("", "@kv_q8_0")]
    assert "requirement" in kinds(made, answer.solutions[0], *mixed)


@pytest.mark.states("space.kv-cache-costs")
@pytest.mark.parametrize("kind", ["tied ends", "ends", "caches"])
def test_automatic_batches_know_the_types(tmp_path: Path, kind: str) -> None:
    least = 60 if kind == "caches" else 300
    body, scenario = f"require chat.throughput >= 1.2x, require chat.batch >= {least}", "batch(auto, 64 -> 8)"
    if kind == "caches":
        made, children = with_caches(tmp_path, body, scenario=scenario), with_all_caches()
    else:
        made = with_ends(tmp_path, body, tied=kind == "tied ends", scenario=scenario)
        children = with_all_ends()
    figures = figures_of(made, children)
    assert len({each.batches["chat"] for each in figures.values()}) > 5
    assert made.solve("s").objective == best(figures)
