"""Sizes of models that exist, to the parameter: heterogeneous ones from their published configurations, and the std
parents against transformers' own modules on the meta device."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, PreTrainedModel

from puzzledsl.alternatives.alternative import Alternative, SubBlock
from puzzledsl.alternatives.gqa import GqaAttention
from puzzledsl.alternatives.mlp import MlpFfn
from puzzledsl.alternatives.noop import NoOpAttention, NoOpFfn
from puzzledsl.alternatives.parent import ParentAttention, ParentFfn
from puzzledsl.alternatives.registry import AttentionAlternative, FfnAlternative
from puzzledsl.checker.shipped import shipped_profiles, shipped_shapes
from puzzledsl.costs.parameters import fixed_size
from puzzledsl.costs.table import cost_table
from puzzledsl.families.registry import FAMILIES
from puzzledsl.ir import facts
from puzzledsl.ir.metrics import metrics_of
from puzzledsl.ir.nodes import LayerChoice, RooflineHardware, Shape
from puzzledsl.ir.tables import LayerAssignment
from puzzledsl.models.families.access import held_by, layers, shape_of
from tests.costs.conftest import Build

NEMOTRON = json.loads((Path(__file__).parent / "nemotron.json").read_text("utf-8"))["models"]
BILLIONS = {"Llama-3.3-Nemotron-Super-49B": 49.8671, "Llama-3.1-Nemotron-Ultra-253B": 253.4013}
SHAPES = shipped_shapes()
DENSE = [
    name
    for name, shape in SHAPES.items()
    if all(own.mixer == "attention" and own.ffn == "dense" for own in shape.each)
]


def shape_of_nemotron(config: dict) -> Shape:  # type: ignore[type-arg]
    return Shape(
        family="llama",
        layers=len(config["block_configs"]),
        hidden=config["hidden_size"],
        heads=config["num_attention_heads"],
        kv_heads=8,
        head_dim=config["hidden_size"] // config["num_attention_heads"],
        intermediate=28672 if config["hidden_size"] == 8192 else 53248,
        vocab=config["vocab_size"],
        tied=config["tie_word_embeddings"],
    )


def block(config: dict, layer: int) -> tuple[AttentionAlternative, FfnAlternative]:  # type: ignore[type-arg]
    """What an entry of `block_configs` says: KV heads by the size of a group, width by the multiple, to the next 256."""
    group, multiple = config["block_configs"][layer]
    width = None if multiple is None else -(-int(2 * multiple * config["hidden_size"] / 3) // 256) * 256
    return (
        NoOpAttention() if group is None else GqaAttention(kv_heads=config["num_attention_heads"] // group),
        NoOpFfn() if width is None else MlpFfn(width=width),
    )


@pytest.mark.parametrize("name", NEMOTRON)
def test_published_heterogeneous_models_have_their_published_size(name: str, program: Build) -> None:
    config = NEMOTRON[name]
    shape = shape_of_nemotron(config)
    blocks = [block(config, layer) for layer in range(shape.layers)]
    choices = tuple(LayerChoice(attention=(a,), ffn=(f,)) for a, f in blocks)
    hardware = shipped_profiles()["h200"].model_copy(update={"gpus": 8})
    table = cost_table(program(shape, choices, chat=(hardware, (1,), 64, 64)), "wide")
    child = [LayerAssignment(attention=a.name, ffn=f.name) for a, f in blocks]
    params = table.params_fixed + sum(
        table.params_attention[i][c.attention] + table.params_ffn[i][c.ffn] for i, c in enumerate(child)
    )
    assert round(params / 10**9, 4) == BILLIONS[name]
    assert params == facts.fixed_params(shape) + sum(piece.params(shape) for pair in blocks for piece in pair)
    norms = shape.hidden * (1 + sum(bool(piece.params(shape)) for pair in blocks for piece in pair))
    weights = metrics_of(table.scenarios["chat"][0], child)["weights"]
    assert weights == 2 * ((params - norms) // 8 + norms)  # bf16 over eight GPUs, the norms on each


def on_meta(shape: Shape) -> PreTrainedModel:
    """Transformers' model of a shape, without weights."""
    windows = {own.window for own in shape.each} - {None}
    config = CONFIG_MAPPING[shape.family](
        num_hidden_layers=shape.layers,
        hidden_size=shape.hidden,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=shape.head_dim,
        intermediate_size=shape.intermediate,
        vocab_size=shape.vocab,
        tie_word_embeddings=shape.tied,
        **({} if shape.family.startswith("qwen") else {"sliding_window": max(windows, default=None)}),
    )
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config)


@pytest.mark.parametrize("name", DENSE)
def test_std_parents_have_the_size_of_transformers_models(name: str) -> None:
    shape = SHAPES[name]
    model = on_meta(shape)
    assert shape_of(model.config) == shape
    assert facts.total_params(shape) == sum(p.numel() for p in model.parameters())  # tied ones are one
    blocks: list[tuple[SubBlock, Alternative]] = [("attention", ParentAttention()), ("ffn", ParentFfn())]
    for own, (layer_idx, *_) in shape.kinds():
        for sub_block, alternative in blocks:
            held = held_by(layers(model)[layer_idx], sub_block).values()
            weights = [p for module in held for p in module.parameters()]
            size = alternative.size(own)
            assert size.params == sum(p.numel() for p in weights)
            assert size.matrices == sum(p.numel() for p in weights if p.ndim == 2)
    assert fixed_size(shape).params == sum(
        p.numel() for n, p in model.named_parameters() if ".layers." not in n
    )


def test_there_are_parents_of_every_family_to_compare() -> None:
    dense = {name for name, family in FAMILIES.items() if not {"experts", "mixer"} & set(family.takes)}
    assert len(DENSE) >= 10 and {SHAPES[name].family for name in DENSE} == dense


@pytest.mark.parametrize("name", ["smollm2_135m", "llama3_1_8b"])
def test_every_type_is_counted_in_its_own_bytes(name: str, program: Build) -> None:
    """Weights int4, KV fp8, embedding bf16, head fp16: a tied head is the embedding."""
    shape = SHAPES[name]
    types = {"dtype": "int4", "activation_dtype": "bf16", "kv_dtype": "fp8", "head_dtype": "fp32"}
    hardware: RooflineHardware = shipped_profiles()["h100_sxm"].model_copy(
        update={**types, "flop_per_s": {**shipped_profiles()["h100_sxm"].flop_per_s, "fp32": 10**14}}
    )
    only = (LayerChoice(attention=(ParentAttention(),), ffn=(ParentFfn(),)),) * shape.layers
    table = cost_table(program(shape, only, chat=(hardware, (3,), 100, 20)), "wide")
    metrics = metrics_of(
        table.scenarios["chat"][0], [LayerAssignment(attention="parent", ffn="parent")] * shape.layers
    )
    embedding = shape.vocab * shape.hidden
    norms = shape.hidden * (2 * shape.layers + 1)
    matrices = facts.total_params(shape) - norms - embedding * (1 if shape.tied else 2)
    stored = 4 * embedding if shape.tied else (2 + 4) * embedding
    assert metrics["weights"] == stored + 2 * norms + matrices // 2
    assert metrics["kv_cache"] == 3 * 128 * shape.layers * 2 * shape.kv_heads * shape.head_dim
