"""Idioms of other tools that newcomers write: the message names the mistake, the help says what was meant, its fix is right."""

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


def busy(rate: str) -> str:
    return f"scenario busy on h = traffic({rate}, 256 -> 128)"


def scored(settings: str) -> str:
    return f"bld b of w {{ tokens = 1M, data = corpus }}\nscore d of b = replace_one({settings})"


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


def errors_of(text: str, folder: Path) -> list[Diagnostic]:
    return look_at(folder / "a.pzl", f"{text}\n{HEAD}").errors


@pytest.mark.parametrize("text", FIXED)
def test_the_fix_is_what_was_meant(text: str, tmp_path: Path) -> None:
    found = errors_of(text, tmp_path)
    assert found and all(len(error.fixes) == 1 for error in found), found
    made = apply(text + "\n", compatible(error.fixes[0] for error in found)).removesuffix("\n")
    assert made == FIXED[text]
    assert errors_of(made, tmp_path) == []
