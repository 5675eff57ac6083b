"""Parents as literal shapes and checkpoints, and their facts."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.language.rules import codes, holds, outcome, program, refused

SHAPE = "layers: 2, hidden: 16, heads: 4, head_dim: 4, intermediate: 32, vocab: 64"


@pytest.mark.parametrize(
    "text",
    [
        *holds("parent.hf", f'parent q = hf("org/name", revision: "main", shape: shape(family: llama, {SHAPE}))'),
        *holds("parent.verified", f'parent q = hf("not/there", shape: shape(family: llama, {SHAPE}))'),
        *holds("parent.facts", f"parent q = shape(family: llama, {SHAPE})\nassert q.layers == 2 and q.hidden == 16 and q.heads == 4"),
        *holds("parent.facts", 'assert p.kv_heads == 4 and p.head_dim == 8 and p.intermediate == 192 and p.vocab == 256\nassert p.family == "llama" and p.tied == false and p.params > 0'),
    ],
)  # fmt: skip
def test_it_checks(tmp_path: Path, text: str) -> None:
    program(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        *refused("parent.config", ('parent q = hf("nowhere")', "E0405")),
        *refused("parent.families", (f"parent q = shape(family: gpt2, {SHAPE})", "E0305")),
        *refused("parent.shape-defaults", ("parent q = shape(family: llama, layers: 2)", "E0209")),
        *refused(
            "parent.impossible",
            (f"parent q = shape(family: llama, {SHAPE}, kv_heads: 3)", "E0408"),
            (f"parent q = shape(family: llama, {SHAPE.replace('head_dim: 4', 'head_dim: 3')})", "E0408"),
        ),
    ],
)  # fmt: skip
def test_it_is_refused(tmp_path: Path, text: str, expected: str) -> None:
    assert codes(tmp_path, text) == expected


def test_a_wrong_line_is_found_where_it_stands(tmp_path: Path) -> None:
    (found,) = outcome(tmp_path, "\n\nlet x = 1GiB + 3s").diagnostics
    assert found.span is not None and found.span.line == 3
