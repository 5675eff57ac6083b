"""From text to exported checkpoint: every alternative of every family, in a layer of each kind.

One program a family asks, alternative by alternative, for a child that has it, and exports each of them.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

import puzzledsl as pzl
from puzzledsl.alternatives.alternative import Alternative, SubBlock
from puzzledsl.alternatives.shape import Shape
from puzzledsl.families.registry import FAMILIES
from puzzledsl.ir import nodes
from tests.tiny import EXPERTS, save_tiny, tiny_tokens

ATTENTION = "parent | gqa(kv_heads: 1) | gqa(kv_heads: 2, window: 5) | gqa(kv_heads: 1, window: 6, sinks: 2) | linear | noop"
FFN = "parent | mlp(width: 50%) | linear | noop"
MIXTURE = " | moe(experts: 4) | moe(experts: 3, top_k: 1, width: 50%)"
PROGRAM = """\
parent p = hf("parent")
space w of p {{
  attention = {attention}
  ffn = {ffn}
}}
hardware here = measured(device: cpu, dtype: fp32)
scenario chat on here = batch(1, 4 -> 4)
data corpus = text("train.txt")
bld pieces of w {{ tokens = 64, context = 16, calibration = 256, data = corpus, heal = 0 }}
score kl of pieces = replace_one(kl_divergence, samples: 16)
"""
SEARCH = """\
search s{number} of w {{ minimize kl, require layers[{layer}].{sub_block} is {pattern} }}
export e{number} of s{number} = hf("out/{number}")
"""
LAYERS = {"nemotron_h": 4, "gemma3_text": 3}
MARKS = dict.fromkeys(("nemotron_h", "qwen3_moe"), pytest.mark.more)
"""Families whose test is not just slow."""


def pattern(alternative: Alternative, own: Shape) -> str:
    """The pattern that only this alternative matches in a layer of this shape; a window's size is that of both together."""
    fields = {name: getattr(alternative, name) for name in alternative.fields() if name != "heads"}
    if "window" in fields:
        fields["window"] = alternative.alone(own).attended
    words = {name: "full" if value is None else value for name, value in fields.items()}
    said = ", ".join(f"{name}: {value}" for name, value in words.items())
    return f"{alternative.kind}({said})" if said else alternative.kind


def wanted(space: nodes.Space, shape: Shape) -> Iterator[tuple[int, SubBlock, Alternative]]:
    """Yield each alternative with the first layer of each kind that has it."""
    seen: set[tuple[int, SubBlock, str]] = set()
    for layer, choice in enumerate(space.layers):
        for alternative in (*choice.attention, *choice.ffn):
            key = (id(shape.at(layer)), alternative.sub_block, alternative.name)
            if key not in seen:
                seen.add(key)
                yield layer, alternative.sub_block, alternative


@pytest.mark.parametrize(
    "family", [pytest.param(name, marks=MARKS.get(name, pytest.mark.slow)) for name in FAMILIES]
)
def test_from_check_to_export(family: str, tmp_path: Path) -> None:
    layers = LAYERS.get(family, 2 if family.startswith("qwen3_") else 3)
    save_tiny(tmp_path / "parent", family, layers=layers)
    (tmp_path / "train.txt").write_text("A sentence of some words, and another one. " * 60, "utf-8")
    file = tmp_path / "every.pzl"
    mixture = family in EXPERTS
    # mistral's window hides first tokens
    attention = ATTENTION.replace(", sinks: 2", "") if family == "mistral" else ATTENTION
    text = PROGRAM.format(attention=attention, ffn=FFN + MIXTURE * mixture)
    file.write_text(text, "utf-8")
    program = pzl.load(file).ir
    shape = program.parents["p"].shape
    children = list(wanted(program.spaces["w"], shape))
    kinds = {alternative.kind for _, sub_block, alternative in children if sub_block == "ffn"}
    assert kinds >= {"parent", "mlp", "linear", "noop", *["moe"] * mixture}
    for number, (layer, sub_block, alternative) in enumerate(children):
        says = {"layer": layer, "sub_block": sub_block, "pattern": pattern(alternative, shape.at(layer))}
        text += SEARCH.format(number=number, **says)
    file.write_text(text, "utf-8")
    run = pzl.load(file).run()
    tokens = tiny_tokens(1, 12)
    for number, (layer, sub_block, alternative) in enumerate(children):
        chosen = pzl.load(file).solve(f"s{number}").layers[layer]
        assert getattr(chosen, sub_block) == alternative.name
        exported = AutoModelForCausalLM.from_pretrained(
            tmp_path / "out" / str(number), trust_remote_code=True, dtype=torch.float32
        )
        with torch.no_grad():
            found, own = exported(tokens).logits, run.child(f"s{number}")(tokens).logits
        torch.testing.assert_close(found, own, rtol=0, atol=2e-5)
