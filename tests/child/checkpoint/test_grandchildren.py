"""Children of children: a child is a parent like any other, and its own children are in the terms of the first family."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from puzzledsl.alternatives.gqa import GqaAttention
from puzzledsl.alternatives.linear import LinearAttention, LinearFfn, NoOpAttention, NoOpFfn
from puzzledsl.alternatives.mlp import MlpFfn
from puzzledsl.alternatives.moe import MoeFfn
from puzzledsl.alternatives.parent import ParentAttention, ParentFfn
from puzzledsl.child.checkpoint.contents import from_directory, load_child
from puzzledsl.child.checkpoint.write import realise
from puzzledsl.families.registry import shape_of_config
from puzzledsl.models.families.access import shape_of
from puzzledsl.models.families.load import load_parent
from puzzledsl.models.layerwise import LayerRunner
from puzzledsl.models.placement import paged_parent
from tests.assembled import assemble
from tests.child.checkpoint.test_checkpoint import Made, generate, greedy
from tests.children import PARENT, Choice, define, random_pieces
from tests.oracle_forward import oracle_logits
from tests.tiny import tiny_tokens

CHILD: list[Choice] = [
    (NoOpAttention(), MlpFfn(width=30)),
    (GqaAttention(kv_heads=2, window=7, sinks=2), NoOpFfn()),
    (LinearAttention(), MlpFfn(width=20)),
    (GqaAttention(kv_heads=1), LinearFfn()),
    (GqaAttention(kv_heads=2, heads=2), ParentFfn()),
]
"""Layers with everything that a child can have; the parent has 4 heads, 2 key/value heads, and 40 channels."""
GRANDCHILDREN: dict[str, tuple[list[Choice], list[tuple[str, str]]]] = {
    "all kept": (
        [PARENT] * 5,
        [("noop", "mlp30"), ("gqa2w7s2", "noop"), ("linear", "mlp20"), ("gqa1", "linear"), ("gqa2h2", "parent")],
    ),
    "smaller": (
        [
            (ParentAttention(), MlpFfn(width=11)),
            (GqaAttention(kv_heads=1), ParentFfn()),
            (NoOpAttention(), NoOpFfn()),
            (GqaAttention(kv_heads=1, window=4), NoOpFfn()),
            (GqaAttention(kv_heads=1), LinearFfn()),
        ],
        [("noop", "mlp11"), ("gqa1w7s2", "noop"), ("noop", "noop"), ("gqa1w4", "noop"), ("gqa1h2", "linear")],
    ),
    "windows": (
        [
            PARENT,
            (GqaAttention(kv_heads=2, window=4, sinks=1), ParentFfn()),
            (ParentAttention(), LinearFfn()),
            (LinearAttention(), ParentFfn()),
            (GqaAttention(kv_heads=2, window=3), MlpFfn(width=33)),
        ],
        [("noop", "mlp30"), ("gqa2w4s1", "noop"), ("linear", "linear"), ("linear", "linear"), ("gqa2h2w3", "mlp33")],
    ),
}  # fmt: skip
MIXTURE: list[Choice] = [
    (GqaAttention(kv_heads=1), MoeFfn(experts=4, top_k=2, width=8)),
    (NoOpAttention(), MlpFfn(width=30)),
    (ParentAttention(), MlpFfn(width=20)),
]
OF_MIXTURE: list[Choice] = [
    (ParentAttention(), MoeFfn(experts=3, top_k=1, width=8)),
    (ParentAttention(), MlpFfn(width=20)),
    (GqaAttention(kv_heads=1), NoOpFfn()),
]


class Grandchild:
    """A child of `first.out`, in memory and on disk."""

    def __init__(self, first: Made, choices: list[Choice]) -> None:
        self.definition, pieces = define(choices), random_pieces(load_parent(first.out), choices)
        self.model = assemble(load_parent(first.out), self.definition, pieces)
        self.out = first.out.parent / "grandchild"
        realise(self.definition, first.out, pieces, self.out)


def config_of(directory: Path) -> dict[str, Any]:
    return json.loads((directory / "config.json").read_text())


def agrees(first: Made, choices: list[Choice], *, batch: int = 1) -> Grandchild:
    """Memory, disk, remote code and caches to the bit; the float64 oracle of the family that the child came from."""
    made, tokens = Grandchild(first, choices), tiny_tokens(batch, 12)
    expected = made.model(tokens).logits
    first.out = made.out
    remote = first.with_remote_code()
    assert torch.equal(load_child(made.out)(tokens).logits, expected)
    assert torch.equal(load_parent(made.out)(tokens).logits, expected)
    assert torch.equal(remote(tokens).logits, expected)
    assert torch.equal(generate(remote, tokens[:, :9]), greedy(made.model, tokens[:, :9]))
    oracle = oracle_logits(made.out, tokens[0].tolist())
    np.testing.assert_allclose(expected[0].numpy(), oracle, atol=2e-5 * np.abs(oracle).max())
    return made


@pytest.mark.parametrize("case", GRANDCHILDREN)
def test_a_grandchild_is_in_terms_of_the_first_family(tmp_path: Path, case: str) -> None:
    choices, names = GRANDCHILDREN[case]
    made = agrees(Made(tmp_path, CHILD), choices)
    assert [(a.name, f.name) for a, f in from_directory(made.out).layers] == names
    assert config_of(made.out)["base_model_type"] == "llama"


def test_an_all_parent_grandchild_is_the_child_itself(tmp_path: Path) -> None:
    child = Made(tmp_path, CHILD)
    made = Grandchild(child, [PARENT] * 5)
    for path in sorted(child.out.iterdir()):
        if path.name != "README.md":
            assert (made.out / path.name).read_bytes() == path.read_bytes(), path.name


@pytest.mark.parametrize(
    "family", ["mistral", "qwen2", "qwen3", "gemma3_text", "olmo2", "smollm3", "granite"]
)
def test_each_family(tmp_path: Path, family: str) -> None:
    child = [
        (GqaAttention(kv_heads=1), MlpFfn(width=20)),
        (NoOpAttention(), ParentFfn()),
        (GqaAttention(kv_heads=2, window=5), LinearFfn()),
        (LinearAttention(), NoOpFfn()),
    ]
    grandchild = [
        (ParentAttention(), MlpFfn(width=9)),
        (ParentAttention(), MlpFfn(width=17)),
        (GqaAttention(kv_heads=1), ParentFfn()),
        (NoOpAttention(), ParentFfn()),
    ]
    agrees(Made(tmp_path, child, family), grandchild)


@pytest.mark.parametrize(
    ("family", "child", "grandchild"),
    [
        ("qwen3_moe", MIXTURE, OF_MIXTURE),
        ("gpt_oss", [MIXTURE[0], MIXTURE[2]], [OF_MIXTURE[0], (GqaAttention(kv_heads=1), MlpFfn(width=9))]),
        (
            "nemotron_h",
            [
                (LinearAttention(), ParentFfn()),
                (GqaAttention(kv_heads=1), ParentFfn()),
                (ParentAttention(), MlpFfn(width=17)),
                PARENT,
            ],
            [
                PARENT,
                (NoOpAttention(), ParentFfn()),
                (ParentAttention(), MlpFfn(width=9)),
                (ParentAttention(), NoOpFfn()),
            ],
        ),
        (
            "qwen3_next",
            [(LinearAttention(), PARENT[1]), (GqaAttention(kv_heads=1), LinearFfn()), PARENT],
            [PARENT, (GqaAttention(kv_heads=1, window=6), ParentFfn()), (NoOpAttention(), NoOpFfn())],
        ),
    ],
)
def test_mixtures_and_hybrids(
    tmp_path: Path, family: str, child: list[Choice], grandchild: list[Choice]
) -> None:
    agrees(Made(tmp_path, child, family), grandchild)


def test_three_generations(tmp_path: Path) -> None:
    child = Made(tmp_path, CHILD)
    choices, _ = GRANDCHILDREN["smaller"]
    child.out = Grandchild(child, choices).out.rename(tmp_path / "models" / "second")
    last = [(ParentAttention(), MlpFfn(width=5)), *[PARENT] * 3, (NoOpAttention(), ParentFfn())]
    made = agrees(child, last)
    names = [("noop", "mlp5"), ("gqa1w7s2", "noop"), ("noop", "noop"), ("gqa1w4", "noop"), ("noop", "linear")]
    assert [(a.name, f.name) for a, f in from_directory(made.out).layers] == names


def test_a_child_is_a_parent_in_every_way_to_run_it(tmp_path: Path) -> None:
    child, tokens = Made(tmp_path, CHILD), tiny_tokens()
    expected = child.child(tokens).logits
    parent = load_parent(child.out)
    assert torch.equal(parent(tokens).logits, expected)
    assert shape_of(parent.config) == shape_of_config(config_of(child.out))
    paged, _ = paged_parent(child.out, room_bytes=1)
    assert torch.equal(paged(tokens).logits, expected)
    runner = LayerRunner(parent)
    states = runner.embed(tokens)
    for layer in range(len(runner)):
        trace = runner.trace_layer(layer, states)
        attention, ffn = CHILD[layer]
        assert bool(trace.attention_added.any()) == (attention.kind != "noop")
        assert bool(trace.ffn_added.any()) == (ffn.kind != "noop")
        states = trace.output
    assert torch.equal(runner.head(runner.final_norm(states)), expected)


def test_the_shape_of_a_child(tmp_path: Path) -> None:
    shape = shape_of_config(config_of(Made(tmp_path, CHILD).out))
    said = [(own.mixer, own.ffn) for own in shape.each]
    assert said == [
        ("none", "dense"), ("attention", "none"), ("linear", "dense"), ("attention", "linear"), ("attention", "dense"),
    ]  # fmt: skip
    assert [own.intermediate for own in shape.each if own.ffn == "dense"] == [30, 20, 40]
    attentions = [own for own in shape.each if own.mixer == "attention"]
    assert [(own.heads, own.kv_heads, own.window, own.window_sinks) for own in attentions] == [
        (4, 2, 7, 2), (4, 1, None, 0), (2, 2, None, 0),
    ]  # fmt: skip
    assert shape.base is not None and not shape.base.by_layer
