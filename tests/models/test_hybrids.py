"""Hybrids on the torch side: files, layers one at a time, statistics of mixers, and what takes their place."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from puzzledsl.alternatives.linear import LinearAttention, LinearFfn
from puzzledsl.alternatives.shape import Initialisers
from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.child.checkpoint.contents import from_parent
from puzzledsl.models.alternatives.realisation import initialise
from puzzledsl.models.families.access import layers, shape_of
from puzzledsl.models.families.build import NoNorm
from puzzledsl.models.families.load import load_parent
from puzzledsl.models.families.stored import inventory
from puzzledsl.models.layerwise import LayerRunner
from puzzledsl.models.placement import paged_parent
from puzzledsl.pieces.train.layer_trainer import walk_layers
from tests.tiny import HYBRIDS, save_tiny, tiny_model, tiny_tokens

LAYERS = {"nemotron_h": 12, "qwen3_next": 4, "qwen3_5_text": 4}


@pytest.mark.parametrize("family", HYBRIDS)
def test_the_inventory_is_what_transformers_stores(tmp_path: Path, family: str) -> None:
    save_tiny(tmp_path, family, layers=LAYERS[family])
    with safe_open(tmp_path / "model.safetensors", framework="pt") as file:
        stored = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    own = {
        name.replace("model.", "backbone.", 1)
        .replace("shared_expert.", "shared_experts.")
        .replace("gate.bias", "gate.e_score_correction_bias")
        if family == "nemotron_h"
        else name: shape
        for name, shape in inventory(shape_of(load_parent(tmp_path).config)).items()
    }
    assert own == stored


def test_extra_layers_for_multi_token_prediction_are_left_out(tmp_path: Path) -> None:
    save_tiny(tmp_path, "qwen3_next", layers=4)
    expected = load_parent(tmp_path)(tiny_tokens()).logits
    weights = load_file(tmp_path / "model.safetensors")
    path = tmp_path / "model.safetensors"
    save_file(weights | {"mtp.fc.weight": torch.zeros(3, 3)}, path, metadata={"format": "pt"})
    assert torch.equal(load_parent(tmp_path)(tiny_tokens()).logits, expected)
    save_file(weights | {"model.layers.0.linear_attn.in_proj_z.weight": torch.zeros(3, 3)}, path)
    with pytest.raises(DiagnosticError, match="unexpected"):
        load_parent(tmp_path)


def test_a_router_s_correction_stays_in_its_own_precision(tmp_path: Path) -> None:
    """Scores of experts are compared in float32; a rounded correction would choose others."""
    save_tiny(tmp_path, "nemotron_h", layers=4)
    stored = load_file(tmp_path / "model.safetensors")["backbone.layers.3.mixer.gate.e_score_correction_bias"]
    gate = load_parent(tmp_path, dtype=torch.bfloat16).model.layers[3].mixer.gate
    assert torch.equal(gate.e_score_correction_bias, stored) and gate.weight.dtype == torch.bfloat16
    child = from_parent(tmp_path).cast(torch.bfloat16)
    assert torch.equal(child.weights["model.layers.3.mixer.gate.bias"].read(), stored)
    assert child.weights["model.layers.3.mixer.gate.weight"].dtype == torch.bfloat16


@pytest.mark.parametrize("family", HYBRIDS)
def test_layers_one_at_a_time_are_the_model(family: str) -> None:
    model, tokens = tiny_model(family, layers=LAYERS[family]), tiny_tokens(2, 20)
    runner = LayerRunner(model)
    with torch.no_grad():
        hidden = runner.embed(tokens)
        for layer in range(len(runner)):
            trace = runner.trace_layer(layer, hidden)
            attended = runner.run_attention(layer, hidden)
            torch.testing.assert_close(hidden + trace.attention_added, trace.between)
            torch.testing.assert_close(trace.between + trace.ffn_added, trace.output)
            assert torch.equal(attended, trace.between)
            assert torch.equal(runner.run_ffn(layer, attended), trace.output)
            hidden = runner.run_layer(layer, hidden)
            assert torch.equal(hidden, trace.output)
        logits = runner.head(runner.final_norm(hidden))
        torch.testing.assert_close(logits, model(tokens, use_cache=False).logits)


@pytest.mark.parametrize("family", HYBRIDS)
def test_a_paged_parent_gives_the_same_bits(tmp_path: Path, family: str) -> None:
    save_tiny(tmp_path, family, layers=LAYERS[family])
    expected = load_parent(tmp_path)(tiny_tokens()).logits
    model, pages = paged_parent(tmp_path, room_bytes=1)
    with torch.no_grad():
        assert torch.equal(model(tiny_tokens()).logits, expected)
    assert len(pages.present) == 1


@pytest.mark.parametrize("family", HYBRIDS)
def test_a_matrix_in_place_of_a_mixer_is_the_best_one(family: str) -> None:
    """Least squares explains a part of a mixer's and of a mixture's output."""
    model = tiny_model(family, layers=LAYERS[family])
    shape = shape_of(model.config)
    statistics = dict(walk_layers(model, [tiny_tokens(16, 32, seed=seed) for seed in range(4)]))
    for index, own in enumerate(shape.each):
        for sub_block, alternative, absent in (
            ("attention", LinearAttention(), own.mixer == "none"),
            ("ffn", LinearFfn(), own.ffn == "none"),
        ):
            if absent:
                continue
            state = initialise(layers(model)[index], alternative, statistics[index], Initialisers(), own)
            matrix = state["linear.weight"]
            assert matrix.shape == (shape.hidden, shape.hidden) and torch.isfinite(matrix).all()
            loss = sum(
                float((getattr(t, f"{sub_block}_input") @ matrix.T - getattr(t, f"{sub_block}_output")).square().sum())
                for _, t in statistics[index].calls
            )  # fmt: skip
            silent = sum(
                float(getattr(t, f"{sub_block}_output").square().sum()) for _, t in statistics[index].calls
            )
            assert loss < silent


def test_a_removed_norm_keeps_its_dtype() -> None:
    norm = NoNorm(torch.nn.LayerNorm(4))
    assert norm.weight.dtype == torch.float32 and not norm.state_dict()
    assert norm.to(torch.bfloat16).weight.dtype == torch.bfloat16
    assert NoNorm(norm).weight.dtype == torch.bfloat16
