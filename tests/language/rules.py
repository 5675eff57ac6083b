"""Rules of the language as programs: what must check in silence, and what must be refused.

Programs stand before `TINY`, whose names they use. Each case bears the rule's anchor in docs/language.md.
"""

from pathlib import Path
from typing import Any

import pytest

from puzzledsl.base.diagnostics import Diagnostic
from puzzledsl.checker.check import Checked
from puzzledsl.ir.nodes import Program
from tests.checker.programs import TINY, checked

DATA = 'data d = text("d.txt")\n'
PIECES = DATA + "bld b of w { tokens = 1k }\n"
"""A text, and pieces of `w` that are trained on it."""
MIXTURE = (
    "shape(family: qwen3_moe, layers: 4, hidden: 64, heads: 8, kv_heads: 4, head_dim: 8, vocab: 256,"
    " experts: 64, top_k: 4, expert_width: 64)"
)
"""A parent's shape with a mixture in every layer."""
SHAPE = "layers: 2, hidden: 16, heads: 4, head_dim: 4, intermediate: 32, vocab: 64"
"""Arguments of a small parent's shape, whose family is still to be said."""
CARD = "hardware g { memory = 80GB, bandwidth = 2TB/s, link = 300GB/s, peak { bf16 = 300TFLOP/s } }\n"
TRAFFIC = "scenario busy on h = traffic(2 req/s, 256 -> 128, at_most: 8)\n"
WIDE = "attention = gqa(kv_heads: 4 | 2 | 1) | linear | noop\n ffn = mlp(width: 100% | 75% | 50%) | noop"
"""parent gqa2 gqa1 linear noop; parent mlp144 mlp96 noop"""
WEIGHTS = """\
parent q = hf("nowhere", shape: shape(family: llama, layers: 4, hidden: 64, heads: 8, kv_heads: 4, head_dim: 8, intermediate: 192, vocab: 256))
space v of q { attention = parent | noop, ffn = parent | noop }
data words = text("words.txt")
data questions = text("questions.txt")
bld pieces of v { tokens = 0, data = words }
score loss of pieces = replace_one(kl_divergence)
score tasks of pieces = replace_one(accuracy("tasks.jsonl"))
"""
"""A parent with weights, and scores of its space `v` that are measured."""


STYLE = ("W0201", "W0202")
"""Warnings of what is allowed and rarely meant; short programs are full of it."""


def told(found: Checked) -> list[Diagnostic]:
    """The diagnostics that these tests are about."""
    return [d for d in found.diagnostics if d.code not in STYLE]


MEASURED = 'bld pieces of w { tokens = 0 }\ndata mix = text("mix.txt")\nscore real of pieces = replace_one(kl_divergence)\n'
"""A score of `w` that is measured."""


def holds(rule: str, *programs: str) -> list[Any]:
    """Cases of programs that check without a word, for the parameter `text`."""
    mark = pytest.mark.states(rule)
    return [pytest.param(text, marks=mark, id=f"{rule}-{i}") for i, text in enumerate(programs)]


def refused(rule: str, *cases: tuple[str, str]) -> list[Any]:
    """Cases of programs with the codes they get, blanks between them, for the parameters `text` and `codes`."""
    mark = pytest.mark.states(rule)
    return [pytest.param(text, codes, marks=mark, id=f"{rule}-{i}") for i, (text, codes) in enumerate(cases)]


def outcome(folder: Path, text: str, **settings: str) -> Checked:
    """The checker's answer to a text with `TINY` behind it."""
    return checked(folder, f"{text}\n{TINY}", **settings)


def program(folder: Path, text: str, **settings: str) -> Program:
    """The program that a correct text means; any diagnostic but `STYLE` fails the test."""
    found = outcome(folder, text, **settings)
    assert not told(found), [f"{d!r} {d.help}" for d in found.diagnostics]
    assert found.program is not None
    return found.program


def codes(folder: Path, text: str, **settings: str) -> str:
    """The codes of a text's diagnostics in the order of the source, blanks between them."""
    return " ".join(d.code for d in told(outcome(folder, text, **settings)))


def search(body: str, goal: str = "minimize kl") -> str:
    """A search `s` of `w` with this body."""
    return f"search s of w {{\n  {goal}\n  {body}\n}}"


def refined(body: str, goal: str = "minimize loss") -> str:
    """A search `s` of a space whose parent has weights."""
    return f"{WEIGHTS}search s of v {{\n  {goal}\n  require params <= 0.9x\n  {body}\n}}"


def space(body: str) -> str:
    """A space `v` of `p` with this body."""
    return f"space v of p {{\n {body}\n}}"


def edited(line: str) -> str:
    """A wide space with an override."""
    return space(f"{WIDE}\n {line}")


def narrowed(body: str) -> str:
    """A space of the part of another that winners use."""
    return f"search s of w {{ minimize kl }}\nspace n of w = used_by(s, top: 3)\nspace r of n {{ {body} }}"


def mixture(body: str) -> str:
    """A space of a parent with a mixture in every layer."""
    return f"parent m = {MIXTURE}\nspace v of m {{\n {body}\n}}"


def hybrid(body: str) -> str:
    """A space of a parent whose layers are of five kinds."""
    return (
        'parent m = shape(family: nemotron_h, pattern: "M-M*E", hidden: 64, heads: 8, kv_heads: 4, head_dim: 8, vocab: 256,\n'
        " intermediate: 192, experts: 8, top_k: 2, expert_width: 48,\n"
        f" mixer: mamba2(heads: 8, head_dim: 8, groups: 2, state: 16))\nspace v of m {{\n {body}\n}}"
    )
