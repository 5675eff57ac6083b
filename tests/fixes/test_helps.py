"""Idioms of other tools that newcomers write: the message names the mistake, the help says what was meant, its fix is right."""

from __future__ import annotations

from pathlib import Path

import pytest

from puzzledsl.base.diagnostics import Diagnostic, apply, compatible
from tests.fixes.laws import look_at

HEAD = """\
parent p = shape(family: llama, layers: 8, hidden: 64, heads: 8, kv_heads: 4, head_dim: 8, intermediate: 1024, vocab: 256)
hardware h = measured(device: cpu, memory: 16GiB)
scenario chat on h = batch(4, 128 -> 64)
space w of p { attention = gqa(kv_heads: 4 | 2 | 1) | linear | noop, ffn = mlp(width: 100% | 50%) | linear | noop }
score kl of w = table("kl.csv")
data corpus = text("c.txt")
data stories = text("o.txt")
"""


def search(condition: str) -> str:
    return f"search s of w {{ minimize kl, require {condition} }}"


CHOSEN = search("params <= 3B") + "\n"


def busy(rate: str) -> str:
    return f"scenario busy on h = traffic({rate}, 256 -> 128)"


def scored(settings: str) -> str:
    return f"bld b of w {{ tokens = 1M, data = corpus }}\nscore d of b = replace_one({settings})"


def uptrained(settings: str) -> str:
    return f"{CHOSEN}uptrain u of s {{ tokens = 1M, data = corpus, {settings} }}"


FIXED = {
    "space v of p { ffn = mlp(width: 5O%) }": "space v of p { ffn = mlp(width: 50%) }",
    "space v of p { ffn = mlp(width: 0.75 | 0.5) }": "space v of p { ffn = mlp(width: 75% | 50%) }",
    scored('accuracy(("t.jsonl"), samples: 256'): scored('accuracy("t.jsonl"), samples: 256'),
    scored('accuracy("t.jsonl", samples: 256'): scored('accuracy("t.jsonl"), samples: 256'),
    'score k of w := table("k.csv")': 'score k of w = table("k.csv")',
    busy("120 req/minute"): busy("2 req/s"),
    busy("2 qps"): busy("2 req/s"),
    "bld b of w { tokens = 10M tok, data = corpus }": "bld b of w { tokens = 10M, data = corpus }",
    "search s of w { minimize kl require params <= 3B }": search("params <= 3B"),
    "space v of p { attention = parent |\xa0noop }": "space v of p { attention = parent | noop }",
    "space v of p { attention = parent |\u2009\u3000noop }": "space v of p { attention = parent | noop }",
    'space v of p { attention = gqa(4, window: "1Ki") }': "space v of p { attention = gqa(4, window: 1Ki) }",
    "space v of p { ffn = parent(dtype: [full, q8_0]) }": "space v of p { ffn = parent(dtype: full | q8_0) }",
    "hardware g = measured(engine: llama.cpp)": "hardware g = measured(engine: llama_cpp)",
    "scenario c on h = batch(1, 128 to 1024)": "scenario c on h = batch(1, 128 -> 1024)",
} | {
    search(mistake): search(meant)
    for mistake, meant in {
        "params <= 1lOM": "params <= 110M",
        "chat.throughput >= 300tok/min": "chat.throughput >= 5 tok/s",
        "layers[0].ffn in [noop, linear]": "layers[0].ffn is (noop | linear)",
        "count(ffn is mlp512) <= 2": "count(ffn is mlp(width: 512)) <= 2",
        "count(attention is gqa2) <= 2": "count(attention is gqa(kv_heads: 2)) <= 2",
        "layers[1] is layers[0]": "layers[1] same as layers[0]",
    }.items()
}  # fmt: skip
"""A mistake -> the program after the only fix that is offered for each of its errors."""

HELPED = {
    'use "std/parents.pzl" (smollm2_135m)\nspace v of smollm2_135m { ffn = parent | noop }': (
        "`parent my_parent = smollm2_135m`, and write `my_parent` here"
    ),
    "param n: Count = 4\nfn half(k) = k / 2\nassert half(n) = n / 2": "`fn half(…) = …`; one `=` sets, two compare",
    "hardware g = h100": 'write `use "std/hardware.pzl" (h100_sxm)` and `h100_sxm`',
    "parent q = shape(family: llama, layers: 8, hidden: 64, heads: 8, intermediate: 64, vocab: 256)": (
        "`head_dim`: channels of a head"
    ),
    busy("2 req/m"): "write `0.03333 req/s`",
    busy("2 req/day"): "units: ",
    busy("5kreq/s"): "units: ",
    "bld b of w { tokens = 10Mtok, data = corpus }": "write `10M`",
    "bld b of w { tokens = 10Mtokens, data = corpus }": "write `10M`",
    "bld b of w { tokens = 10Gtok, data = corpus }": "units: ",
    "space v of p { ffn = parent | moe(experts: 2) }": "a dense FFN has `mlp(width: 50%)`, `linear` and `noop`",
    "space v of p { attention = gqa(4, window: none) }": "leaving the setting out",
    uptrained("batch = 8, micro_batch = 16"): "",
    uptrained("warmup = 100"): "warmup: …)`",
    uptrained("lr = cosine(1e-4, warmup: 100)"): "it is a share, such as `5%`",
    uptrained("ema = 99"): "the weights that are best on held-out text are kept",
    f"{CHOSEN}assert s.memory <= 3GiB": "`chat.memory`",
} | {
    search(mistake): said
    for mistake, said in {
        "talk.memroy <= 5GiB": "declare `scenario talk on HARDWARE = batch(1, 1Ki -> 256)`",
        "best.memory <= 5GiB": "or write `chat.memory`",
        "layers[0].ffn is noop or layers[1].ffn require not noop": "are separated by `,`",
        "best.kept >= 95%": "declare `judge best of PARENT = tasks(…) { data = … }`",
        "best.accuracy >= 95%": "then write `best.kept`",
        "head.width >= 2": "`head is parent(dtype: q8_0)`",
        "layers[0..3] same as layers[4..7]": "go through several in a `for`",
        "attention.kv_heads >= 2": "`all(l.attention.kv_heads >= 2 for l in layers)`",
        "layers[1] same as layers0]": "write the `[` in front of the layers",
        "chat.throughput >= 5ktok/min": "write `83.33 tok/s`",
        "chat.throughput >= 300tok/m": "write `5 tok/s`",
        "chat.latency <= 2m": "minutes are `2min`, millions are `2M`",
        "p.num_layers >= 20": "`count(attention is not noop) >= 20`",
    }.items()
}  # fmt: skip
"""A mistake -> what its help says; nothing is certain enough for a fix."""


def errors_of(text: str, folder: Path) -> list[Diagnostic]:
    return look_at(folder / "a.pzl", f"{text}\n{HEAD}").errors


@pytest.mark.parametrize("text", FIXED)
def test_the_fix_is_what_was_meant(text: str, tmp_path: Path) -> None:
    found = errors_of(text, tmp_path)
    assert found and all(len(error.fixes) == 1 for error in found), found
    made = apply(text + "\n", compatible(error.fixes[0] for error in found)).removesuffix("\n")
    assert made == FIXED[text]
    assert errors_of(made, tmp_path) == []


@pytest.mark.parametrize("text", HELPED)
def test_the_help_names_what_was_meant(text: str, tmp_path: Path) -> None:
    [error] = errors_of(text, tmp_path)
    assert HELPED[text] in error.help and not error.fixes
    assert error.help or "at most the `batch`, 8" in error.message


def test_a_parent_without_a_shape_has_no_second_mistake(tmp_path: Path) -> None:
    mixture = "family: qwen3_moe, layers: 4, hidden: 64, heads: 8, kv_heads: 2, head_dim: 8, vocab: 256, experts: 64, top_k: 2"
    text = f"parent q = shape({mixture})\nspace v of q {{ ffn = parent | moe(experts: 8) }}"
    assert [error.message for error in errors_of(text, tmp_path)] == ["`shape` needs `expert_width`"]


LAPTOP = "hardware laptop = measured(engine: llama_cpp)\nscenario talk on laptop = batch(1, 8 -> 8)\n"


@pytest.mark.parametrize(
    ("parent", "text", "said"),
    [
        ("gemma3_1b", 'search s of v { minimize loss }\nexport out of s = gguf("child.gguf")', "has gemma3_text layers"),
        ("gemma3_1b", LAPTOP + "search s of v { minimize loss, require talk.latency <= 1s }", "has gemma3_text layers"),
        *(
            ("qwen3_5_9b", f"search s of v {{ minimize loss }}\nexport out of s = {call}", "no state in attention's place")
            for call in ('gguf("child.gguf")', 'mlx("child")', 'hf("child", runtime: vllm)')
        ),
    ],
)  # fmt: skip
def test_a_family_that_a_runtime_lacks_is_no_matter_of_alternatives(
    parent: str, text: str, said: str, tmp_path: Path
) -> None:
    head = f'use "std/parents.pzl" ({parent})\nparent g = {parent}\nspace v of g {{ ffn = parent | noop }}\n'
    [error] = errors_of(f'{head}score loss of v = table("loss.csv")\n{text}', tmp_path)
    assert said in error.message and error.help and "drop" not in error.help
