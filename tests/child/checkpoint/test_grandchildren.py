"""Children of children: a child is a parent like any other, and its own children are in the terms of the first family."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from puzzledsl.alternatives.gqa import GqaAttention
from puzzledsl.alternatives.mlp import MlpFfn
from puzzledsl.alternatives.moe import MoeFfn
from puzzledsl.child.checkpoint.contents import from_directory
from puzzledsl.families.registry import shape_of_config
from puzzledsl.models.families.access import shape_of
from puzzledsl.models.families.load import load_parent
from puzzledsl.models.layerwise import LayerRunner
from puzzledsl.models.placement import paged_parent
from tests.child.checkpoint.test_checkpoint import Made, contents
from tests.children import PARENT, Choice
from tests.export.variants import G1, LA, LF, NA, NF, A, F
from tests.tiny import tiny_tokens

CHILD: list[Choice] = [
    (NA, MlpFfn(width=30)),
    (GqaAttention(kv_heads=2, window=7, sinks=2), NF),
    (LA, MlpFfn(width=20)),
    (G1, LF),
    (GqaAttention(kv_heads=2, heads=2), F),
]
"""Layers with everything that a child can have; the parent has 4 heads, 2 key/value heads, and 40 channels."""
SMALLER: list[Choice] = [
    (A, MlpFfn(width=11)),
    (G1, F),
    (NA, NF),
    (GqaAttention(kv_heads=1, window=4), NF),
    (G1, LF),
]
GRANDCHILDREN: dict[str, tuple[list[Choice], str]] = {
    "all kept": ([PARENT] * 5, "noop/mlp30 gqa2w7s2/noop linear/mlp20 gqa1/linear gqa2h2/parent"),
    "smaller": (SMALLER, "noop/mlp11 gqa1w7s2/noop noop/noop gqa1w4/noop gqa1h2/linear"),
    "windows": (
        [
            PARENT,
            (GqaAttention(kv_heads=2, window=4, sinks=1), F),
            (A, LF),
            (LA, F),
            (GqaAttention(kv_heads=2, window=3), MlpFfn(width=33)),
        ],
        "noop/mlp30 gqa2w4s1/noop linear/linear linear/linear gqa2h2w3/mlp33",
    ),
}
MIXTURE: list[Choice] = [
    (G1, MoeFfn(experts=4, top_k=2, width=8)),
    (NA, MlpFfn(width=30)),
    (A, MlpFfn(width=20)),
]
OF_MIXTURE: list[Choice] = [(A, MoeFfn(experts=3, top_k=1, width=8)), (A, MlpFfn(width=20)), (G1, NF)]


def names_of(made: Made) -> str:
    return " ".join(f"{a.name}/{f.name}" for a, f in from_directory(made.out).layers)


def config_of(made: Made) -> dict[str, Any]:
    return json.loads((made.out / "config.json").read_text())


def child_of(first: Made, choices: list[Choice]) -> Made:
    """A child of a child, which agrees with the float64 oracle of the family that the first came from."""
    made = Made(first.out.parent.parent / "again", choices, parent=first.out)
    made.agrees(tiny_tokens(1, 12))
    return made


def test_a_grandchild_is_in_terms_of_the_first_family(tmp_path: Path) -> None:
    first = Made(tmp_path, CHILD)
    for choices, names in GRANDCHILDREN.values():
        made = child_of(first, choices)
        assert names_of(made) == names and config_of(made)["base_model_type"] == "llama"
        if choices == [PARENT] * 5:
            assert contents(made.out) | {"README.md": b""} == contents(first.out) | {"README.md": b""}
    last = [(A, MlpFfn(width=5)), *[PARENT] * 3, (NA, F)]
    third = child_of(child_of(first, SMALLER), last)
    assert names_of(third) == "noop/mlp5 gqa1w7s2/noop noop/noop gqa1w4/noop noop/linear"


OF_DENSE = (
    [(G1, MlpFfn(width=20)), (NA, F), (GqaAttention(kv_heads=2, window=5), LF), (LA, NF)],
    [(A, MlpFfn(width=9)), (A, MlpFfn(width=17)), (G1, F), (NA, F)],
)
OF_NEMOTRON = (
    [(LA, F), (G1, F), (A, MlpFfn(width=17)), PARENT],
    [PARENT, (NA, F), (A, MlpFfn(width=9)), (A, NF)],
)
OF_NEXT = ([(LA, F), (G1, LF), PARENT], [PARENT, (GqaAttention(kv_heads=1, window=6), F), (NA, NF)])


@pytest.mark.parametrize(
    ("family", "child", "grandchild"),
    [
        *(
            (f, *OF_DENSE)
            for f in ("mistral", "qwen2", "qwen3", "gemma3_text", "olmo2", "smollm3", "granite")
        ),
        ("qwen3_moe", MIXTURE, OF_MIXTURE),
        ("gpt_oss", [MIXTURE[0], MIXTURE[2]], [OF_MIXTURE[0], (G1, MlpFfn(width=9))]),
        ("nemotron_h", *OF_NEMOTRON),
        ("qwen3_next", *OF_NEXT),
    ],
)
def test_each_family(tmp_path: Path, family: str, child: list[Choice], grandchild: list[Choice]) -> None:
    child_of(Made(tmp_path, child, family), grandchild)


def test_a_child_is_a_parent_in_every_way_to_run_it(tmp_path: Path) -> None:
    child, tokens = Made(tmp_path, CHILD), tiny_tokens()
    expected, parent = child.child(tokens).logits, load_parent(child.out)
    assert torch.equal(parent(tokens).logits, expected)
    paged, _ = paged_parent(child.out, room_bytes=1)
    assert torch.equal(paged(tokens).logits, expected)
    runner = LayerRunner(parent)
    states = runner.embed(tokens)
    for layer, (attention, ffn) in enumerate(CHILD):
        trace = runner.trace_layer(layer, states)
        assert bool(trace.attention_added.any()) == (attention.kind != "noop")
        assert bool(trace.ffn_added.any()) == (ffn.kind != "noop")
        states = trace.output
    assert torch.equal(runner.head(runner.final_norm(states)), expected)
    shape = shape_of(parent.config)
    assert shape == shape_of_config(config_of(child))
    said = " ".join(f"{own.mixer}/{own.ffn}" for own in shape.each)
    assert said == "none/dense attention/none linear/dense attention/linear attention/dense"
    assert [own.intermediate for own in shape.each if own.ffn == "dense"] == [30, 20, 40]
    attentions = [own for own in shape.each if own.mixer == "attention"]
    found = [(own.heads, own.kv_heads, own.window, own.window_sinks) for own in attentions]
    assert found == [(4, 2, 7, 2), (4, 1, None, 0), (2, 2, None, 0)]
    assert shape.base is not None and not shape.base.by_layer
