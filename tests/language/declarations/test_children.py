"""Uptraining, evaluation and export of a child."""

from __future__ import annotations

from pathlib import Path

import pytest

from puzzledsl.ir import nodes
from puzzledsl.ir.references import children_evaluated, children_in_full
from tests.language.rules import DATA, codes, holds, outcome, program, refused


@pytest.mark.parametrize(
    "text",
    [
        *holds("eval.tasks", DATA + 'search s of w { minimize kl }\neval e of s = tasks("a.jsonl", "b.jsonl") { items = 20, tokens = 4Ki, data = d }'),
    ],
)  # fmt: skip
def test_it_checks(tmp_path: Path, text: str) -> None:
    program(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        *refused("uptrain.settings", (DATA + "search s of w { minimize kl }\nuptrain u of s { }", "E0209")),
        *refused("uptrain.memory", (DATA + "search s of w { minimize kl }\nuptrain u of s { tokens = 1, dtype = fp8, micro_batch = 0 }", "E0305 E0304")),
        *refused("uptrain.keep", (DATA + "search s of w { minimize kl }\nuptrain u of s { tokens = 1, keep = first }", "E0305")),
        *refused("uptrain.loss", (DATA + "search s of w { minimize kl }\nuptrain u of s { tokens = 1, loss = 1 * mse }", "E0305")),
        *refused("export.formats", ('search s of w { minimize kl }\nexport x of s = gguf("x", runtime: vllm)', "E0305")),
    ],
)  # fmt: skip
def test_it_is_refused(tmp_path: Path, text: str, expected: str) -> None:
    assert codes(tmp_path, text) == expected


@pytest.mark.states("uptrain.loss", "uptrain.settings", "uptrain.memory", "uptrain.dtype", "uptrain.keep")
def test_uptraining(tmp_path: Path) -> None:
    def uptrain(body: str) -> nodes.Uptrain:
        text = DATA + f"search s of w {{ minimize kl }}\nuptrain u of s {{ {body} }}"
        if "tokens" not in body:
            text = text.replace("u of s { ", "u of s { tokens = 1k, ")
        return program(tmp_path, text).uptrains["u"]

    def weights(body: str) -> tuple[float, float, float]:
        return (found := uptrain(body)).kld, found.cosine, found.lm

    assert weights("") == weights("loss = 1 * kld + 1 * cosine + 0 * lm") == (1, 1, 0)
    assert weights("loss = kld * 2 + lm") == (2, 0, 1)
    peaks = {"1k": 2e-4, "65_535": 2e-4, "64Ki": 1e-4, "1B": 1e-4}
    for size, peak in peaks.items():
        assert uptrain(f"tokens = {size}").lr == nodes.Schedule(kind="cosine", peak=peak, warmup=0.05)
    sizes = {"12Ki": 4, "48Ki": 8, "1M": 32, "100": 1}
    assert {size: uptrain(f"context = 256, tokens = {size}").batch for size in sizes} == sizes
    assert uptrain("tokens = 1B").batch == 128
    assert uptrain("").fits_child and not uptrain("lr = cosine(1e-4)").fits_child
    found = uptrain("context = 512, batch = 4, lr = 1e-4, data = d, seed = 3")
    assert (found.context, found.batch, found.lr.peak, found.data, found.seed) == (512, 4, 1e-4, "d", 3)
    assert (found.micro_batch, found.dtype, found.recompute) == (None, None, False)
    found = uptrain("micro_batch = 2, dtype = bf16, recompute = true")
    assert (found.micro_batch, found.dtype, found.recompute) == (2, "bf16", True)
    assert (found.keep, uptrain("keep = last").keep) == ("best", "last")
    head = "space v of w { head = parent(dtype: full | q8_0) }\nsearch t of v { minimize params }\n"
    assert program(tmp_path, DATA + head + "uptrain u of t { tokens = 1 }").uptrains["u"].search == "t"
    assert "keep" not in found.model_dump(), "digests of programs without it stay"


@pytest.mark.states("uptrain.text")
def test_uptraining_reads_behind_what_the_child_was_made_from(tmp_path: Path) -> None:
    """As `tests/child/healing/test_text.py` checks on tokens."""
    from puzzledsl.child.healing.run import blocks_read

    body = "{ tokens = 8Ki, context = 256, calibration = 2Ki, heal = 12Ki }"
    found = program(
        tmp_path, DATA + f"bld b of w {body}\nscore k of b = replace_one(kl_divergence, samples: 512)"
    )
    assert blocks_read(found, "d", 256, 0) >= (8 + 2 + 12 - 10) * 1024 // 256 + 2
    assert blocks_read(found, "d", 512, 0) == 0


@pytest.mark.states("eval.lm-eval")
def test_lm_eval_tasks(tmp_path: Path) -> None:
    text = (
        DATA
        + 'search s of w { minimize kl }\neval e of s { lm_eval = "arc_easy, hellaswag mmlu", shots = 5 }\neval f of s'
    )
    found = program(tmp_path, text).evals
    assert (found["e"].lm_eval, found["e"].shots) == (("arc_easy", "hellaswag", "mmlu"), 5)
    assert (found["f"].lm_eval, found["f"].shots) == ((), None)


@pytest.mark.states("eval.texts")
def test_evaluation_on_several_texts(tmp_path: Path) -> None:
    more = (
        DATA + 'data code = text("code.txt")\ndata more = text("more.txt")\nsearch s of w { minimize kl }\n'
    )
    found = program(
        tmp_path,
        more + "eval e of s { data = d + code + more + d }\neval f of s { data = code }\neval g of s",
    ).evals
    shown = {name: (e.data, e.more_data) for name, e in found.items()}
    assert shown == {"e": ("d", ("code", "more")), "f": ("code", ()), "g": (None, ())}
    assert codes(tmp_path, more + "eval e of s { data = d + w + 3 }") == "E0202 E0202"


CHILDREN = DATA + (
    "search s of w { minimize kl }\nsearch t of s { prefer params }\nuptrain u of s { tokens = 1k }\n"
    "uptrain far of other { tokens = 1k }\n"
    "space v of p { ffn = parent | noop }\nsearch other of v { maximize params }\n"
)


@pytest.mark.states("eval.full")
def test_children_that_are_evaluated_in_full(tmp_path: Path) -> None:
    named = {"e": "{ full = u + t }", "f": "{ full = u }", "g": ""}
    text = CHILDREN + "\n".join(f'eval {name} of u = tasks("a.jsonl") {body}' for name, body in named.items())
    found = program(tmp_path, text)
    assert {name: children_in_full(found, name) for name in named} == {
        "e": ("u", "t"),
        "f": ("u",),
        "g": ("s", "u"),
    }
    assert all(children_evaluated(found, name) == ("s", "u", "t") for name in named)


@pytest.mark.states("eval.dtype")
def test_the_dtype_that_tasks_are_answered_in(tmp_path: Path) -> None:
    named = {"e": "{ dtype = bf16 }", "f": "{ dtype = fp32 }", "g": ""}
    text = CHILDREN + "\n".join(f'eval {name} of u = tasks("a.jsonl") {body}' for name, body in named.items())
    evals = program(tmp_path, text).evals
    assert {name: evals[name].dtype for name in named} == {"e": "bf16", "f": "fp32", "g": None}
    assert codes(tmp_path, CHILDREN + 'eval e of u = tasks("a.jsonl") { dtype = fp8 }') == "E0305"


@pytest.mark.states("eval.prompts")
def test_prompts_of_an_evaluation(tmp_path: Path) -> None:
    bodies = {
        "a": 'prompts = "p.jsonl"',
        "b": 'prompts = prompts("Why?", "How?")',
        "c": "prompts = none",
        "plain": "tokens = 8Ki",
        "f": "prompts = asked",
    }
    text = (
        CHILDREN
        + 'let asked = prompts("Who?")\n'
        + "\n".join(f"eval {n} of u {{ {b} }}" for n, b in bodies.items())
    )
    evals = program(tmp_path, text).evals
    assert {name: evals[name].prompts for name in bodies} == {
        "a": nodes.Prompts(path="p.jsonl"),
        "b": nodes.Prompts(texts=("Why?", "How?")),
        "c": nodes.Prompts(),
        "plain": None,
        "f": nodes.Prompts(texts=("Who?",)),
    }
    assert "prompts" not in evals["plain"].model_dump()
    assert codes(tmp_path, CHILDREN + 'eval e of u { prompts = "Why?" }') == "E0432"


@pytest.mark.states("eval.full")
@pytest.mark.parametrize(
    ("full", "expected"),
    [
        ("s", "E0431"),
        ("t + s", "E0431"),
        ("u + s + u", "E0208"),
        ("u + other", "E0413"),
        ("u + far", "E0413"),
        ("u + d", "E0202"),
        ("u + nowhere", "E0201"),
    ],
)
def test_children_that_cannot_be_evaluated_in_full(tmp_path: Path, full: str, expected: str) -> None:
    assert codes(tmp_path, CHILDREN + f'eval e of u = tasks("a.jsonl") {{ full = {full} }}') == expected


@pytest.mark.states("eval.tasks", "export.formats")
def test_evaluation_and_export(tmp_path: Path) -> None:
    text = DATA + (
        "search s of w { minimize kl }\nuptrain u of s { tokens = 1k }\n"
        'eval e of u = tasks("a.jsonl", "b.jsonl") { items = 20, tokens = 4Ki }\neval f of s\n'
        'export x of u = hf("dir", runtime: vllm, lower: true)\nexport y of s = gguf("c.gguf", dtype: f16, lower: true)\nexport z of s = mlp\n'
    ).replace("= mlp\n", '= mlx("dir", lower: true)\n')
    found = program(tmp_path, text)
    one = found.evals["e"]
    assert (one.tasks, one.items, one.tokens, one.of) == (("a.jsonl", "b.jsonl"), 20, 4096, "u")
    assert (found.evals["f"].tasks, found.evals["f"].tokens) == ((), 8192)
    shown = {n: (x.format, x.path, x.runtime, x.dtype) for n, x in found.exports.items()}
    assert shown == {
        "x": ("hf", "dir", "vllm", None),
        "y": ("gguf", "c.gguf", "llama_cpp", "f16"),
        "z": ("mlx", "dir", "mlx", None),
    }


@pytest.mark.states("export.lowered")
def test_what_a_runtime_lacks(tmp_path: Path) -> None:
    text = (
        "space v of p { attention = parent | noop, ffn = parent | linear }\nsearch s of v { maximize params }\n"
        "space u of p { attention = parent | gqa(kv_heads: 2, window: 64, sinks: 4) }\nsearch t of u { maximize params }\n"
    )
    assert codes(tmp_path, text + 'export x of s = hf("x")') == ""
    lacking = outcome(tmp_path, text + 'export x of s = hf("x", runtime: vllm)').diagnostics
    assert lacking and all(d.severity == "warning" for d in lacking)
    assert "latency" in "".join(" ".join((d.help, *d.notes)) for d in lacking)
    assert codes(tmp_path, text + 'export x of s = hf("x", runtime: vllm, lower: true)') == ""
    refused_ = outcome(tmp_path, text + 'export x of s = hf("x", runtime: vllm, lower: false)').diagnostics
    assert refused_ and all(d.severity == "error" for d in refused_)
    nothing = outcome(tmp_path, text + 'export x of t = hf("x", runtime: vllm, lower: true)').diagnostics
    assert nothing and all(d.severity == "error" for d in nothing)
