"""Uptraining, evaluation and export of a child."""

from __future__ import annotations

from pathlib import Path

import pytest

from puzzledsl.ir import nodes
from puzzledsl.ir.references import children_evaluated, children_in_full
from tests.language.rules import DATA, codes, outcome, program, told


@pytest.mark.states("uptrain.loss", "uptrain.settings", "uptrain.memory", "uptrain.dtype", "uptrain.keep")
def test_uptraining(tmp_path: Path) -> None:
    def uptrain(body: str) -> nodes.Uptrain:
        text = DATA + f"search s of w {{ minimize kl }}\nuptrain u of s {{ {body} }}"
        text = text if "tokens" in body else text.replace("u of s { ", "u of s { tokens = 1k, ")
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


CHILDREN = DATA + (
    "search s of w { minimize kl }\nsearch t of s { prefer params }\nuptrain u of s { tokens = 1k, data = d }\n"
    "uptrain far of other { tokens = 1k, data = d }\n"
    "space v of p { ffn = parent | noop }\nsearch other of v { maximize params }\n"
)


@pytest.mark.states("eval.lm-eval", "eval.texts", "eval.dtype", "eval.prompts", "eval.tasks")
def test_settings_of_an_evaluation(tmp_path: Path) -> None:
    """Each alone: what it sets; and what is set where it is left out."""
    settings: dict[str, dict[str, object]] = {
        'lm_eval = "arc_easy, hellaswag mmlu", shots = 5': {
            "lm_eval": ("arc_easy", "hellaswag", "mmlu"),
            "shots": 5,
        },
        "data = d + code + more + d": {"data": "d", "more_data": ("code", "more")},
        "data = code": {"data": "code"},
        "dtype = fp32": {"dtype": "fp32"},
        'prompts = "p.jsonl"': {"prompts": nodes.Prompts(path="p.jsonl")},
        'prompts = prompts("Why?", "How?")': {"prompts": nodes.Prompts(texts=("Why?", "How?"))},
        "prompts = none": {"prompts": nodes.Prompts()},
        "prompts = asked": {"prompts": nodes.Prompts(texts=("Who?",))},
        "items = 20, tokens = 4Ki": {"items": 20, "tokens": 4096},
    }
    bare: dict[str, object] = {
        "lm_eval": (), "shots": None, "data": None, "more_data": (), "dtype": None, "prompts": None, "items": None, "tokens": 8192,
    }  # fmt: skip
    text = (
        CHILDREN + 'let asked = prompts("Who?")\ndata code = text("code.txt")\ndata more = text("more.txt")\n'
    )
    text += "\n".join(f'eval e{i} of u = tasks("a", "b") {{ {body} }}' for i, body in enumerate(settings))
    for found, meant in zip(program(tmp_path, text).evals.values(), settings.values(), strict=True):
        assert (found.tasks, found.of) == (("a", "b"), "u")
        assert {name: getattr(found, name) for name in bare} == bare | meant
        assert ("prompts" in found.model_dump()) == ("prompts" in meant)


@pytest.mark.states("eval.full")
def test_children_that_are_evaluated_in_full(tmp_path: Path) -> None:
    named = {"e": "{ full = u + t }", "f": "{ full = u }", "g": "", "k": "{ full = t + t }"}
    text = CHILDREN + "\n".join(f'eval {name} of u = tasks("a.jsonl") {body}' for name, body in named.items())
    found = program(tmp_path, text)
    assert {name: children_in_full(found, name) for name in named} == {
        "e": ("u", "t"),
        "f": ("u",),
        "g": ("s", "u"),
        "k": ("t", "u"),
    }
    assert all(children_evaluated(found, name) == ("s", "u", "t") for name in named)


@pytest.mark.states("eval.full", "eval.texts", "eval.dtype", "eval.prompts")
@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("full = u + other", "E0413"),
        ("full = u + far", "E0413"),
        ("full = u + d", "E0202"),
        ("full = u + nowhere", "E0201"),
        ("data = d + w + 3", "E0202 E0202"),
        ("dtype = fp8", "E0305"),
        ('prompts = "Why?"', "E0432"),
    ],
)
def test_evaluations_that_are_refused(tmp_path: Path, setting: str, expected: str) -> None:
    assert codes(tmp_path, CHILDREN + f'eval e of u = tasks("a.jsonl") {{ {setting} }}') == expected


@pytest.mark.states("export.formats")
def test_exports(tmp_path: Path) -> None:
    exports = {
        'hf("dir", runtime: vllm, lower: true)': ("hf", "dir", "vllm", None),
        'gguf("c.gguf", dtype: f16, lower: true)': ("gguf", "c.gguf", "llama_cpp", "f16"),
        'mlx("dir", lower: true)': ("mlx", "dir", "mlx", None),
    }
    text = CHILDREN + "".join(f"export x{i} of s = {call}\n" for i, call in enumerate(exports))
    found = program(tmp_path, text).exports.values()
    assert [(x.format, x.path, x.runtime, x.dtype) for x in found] == [*exports.values()]


@pytest.mark.states("export.lowered")
def test_what_a_runtime_lacks(tmp_path: Path) -> None:
    text = (
        "space v of p { attention = parent | noop, ffn = parent | linear }\nsearch s of v { maximize params }\n"
        "space u of p { attention = parent | gqa(kv_heads: 2, window: 64, sinks: 4) }\nsearch t of u { maximize params }\n"
    )
    for call, severities in {
        's = hf("x")': set(),
        's = hf("x", runtime: vllm)': {"warning"},
        's = hf("x", runtime: vllm, lower: true)': set(),
        's = hf("x", runtime: vllm, lower: false)': {"error"},
        't = hf("x", runtime: vllm, lower: true)': {"error"},
    }.items():
        found = told(outcome(tmp_path, f"{text}export x of {call}"))
        assert {d.severity for d in found} == severities
        assert "latency" in "".join((d.help + "".join(d.notes)) for d in found) or "warning" not in severities
