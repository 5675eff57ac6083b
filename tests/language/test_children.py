"""Uptraining and evaluation of a child."""

from pathlib import Path

import pytest

from puzzledsl.ir import nodes
from puzzledsl.ir.references import children_evaluated, children_in_full
from tests.language.rules import DATA, program


@pytest.mark.states("uptrain.settings")
def test_uptraining_fits_its_budget(tmp_path: Path) -> None:
    def uptrain(body: str) -> nodes.Uptrain:
        text = DATA + f"search s of w {{ minimize kl }}\nuptrain u of s {{ {body} }}"
        text = text if "tokens" in body else text.replace("u of s { ", "u of s { tokens = 1k, ")
        return program(tmp_path, text).uptrains["u"]

    peaks = {"1k": 2e-4, "65_535": 2e-4, "64Ki": 1e-4, "1B": 1e-4}
    for size, peak in peaks.items():
        assert uptrain(f"tokens = {size}").lr == nodes.Schedule(kind="cosine", peak=peak, warmup=0.05)
    sizes = {"12Ki": 4, "48Ki": 8, "1M": 32, "100": 1}
    assert {size: uptrain(f"context = 256, tokens = {size}").batch for size in sizes} == sizes
    assert uptrain("tokens = 1B").batch == 128
    assert uptrain("").fits_child and not uptrain("lr = cosine(1e-4)").fits_child


@pytest.mark.states("uptrain.text")
def test_uptraining_reads_behind_what_the_child_was_made_from(tmp_path: Path) -> None:
    """As `tests/child/healing/test_text.py` checks on tokens."""
    from puzzledsl.child.healing.walk import blocks_read

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
