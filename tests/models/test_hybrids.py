"""Hybrids on the torch side: files, and what takes the place of mixers."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from puzzledsl.alternatives.linear import LinearAttention, LinearFfn
from puzzledsl.alternatives.shape import Initialisers
from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.child.checkpoint.contents import from_parent
from puzzledsl.models.alternatives.realisation import initialise
from puzzledsl.models.families.access import layers, shape_of
from puzzledsl.models.families.load import load_parent
from puzzledsl.pieces.train.layer_trainer import walk_layers
from tests.tiny import HYBRIDS, save_tiny, tiny_model, tiny_tokens

LAYERS = {"nemotron_h": 12, "qwen3_next": 4, "qwen3_5_text": 4}


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
def test_a_matrix_in_place_of_a_mixer_is_the_best_one(family: str) -> None:
    """Least squares explains a part of a mixer's and of a mixture's output."""
    model = tiny_model(family, layers=LAYERS[family])
    shape = shape_of(model.config)
    statistics = dict(walk_layers(model, [tiny_tokens(16, 32, seed=seed) for seed in range(4)]))
    for index, own in enumerate(shape.each):
        for alternative, kind in ((LinearAttention(), own.mixer), (LinearFfn(), own.ffn)):
            if kind == "none":
                continue
            state = initialise(layers(model)[index], alternative, statistics[index], Initialisers(), own)
            matrix, calls = state["linear.weight"], [trace for _, trace in statistics[index].calls]
            assert matrix.shape == (shape.hidden, shape.hidden) and torch.isfinite(matrix).all()
            inputs, outputs = (
                torch.cat([getattr(t, f"{alternative.sub_block}_{side}") for t in calls])
                for side in ("input", "output")
            )
            assert (inputs @ matrix.T - outputs).square().sum() < outputs.square().sum()
