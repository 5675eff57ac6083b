"""Models in which layers use the weights of others: as deep as the whole, and as small as is asked for."""

from pathlib import Path

import pytest
import torch

from puzzledsl.measure.whole import WholeTimer, Workload
from puzzledsl.models.families.access import layers
from puzzledsl.models.families.load import load_parent
from puzzledsl.models.families.slots import layers_with_weights
from tests.tiny import HYBRIDS, save_tiny, tiny_tokens

DEPTH = 6


def weights_held(model: torch.nn.Module) -> int:
    return sum(weight.nbytes for weight in model.parameters())  # each once


@pytest.mark.parametrize("family", ["llama", "gemma3_text", "qwen3_moe", "gpt_oss", *HYBRIDS])
@pytest.mark.parametrize("share", [0.0, 0.7])
def test_weights_that_do_not_fit_are_those_of_layers_like_them(family, share, tmp_path: Path) -> None:
    directory = save_tiny(tmp_path / "parent", family, layers=12 if family == "nemotron_h" else DEPTH)
    whole = load_parent(directory)
    room = max(weights_held(load_parent(directory, room_bytes=0)), int(share * weights_held(whole)))
    model = load_parent(directory, room_bytes=room)
    assert weights_held(model) <= room
    assert len(layers(model)) == len(layers(whole))
    assert layers_with_weights(layers(model)) < layers_with_weights(layers(whole))
    shapes = {name: weight.shape for name, weight in whole.named_parameters(remove_duplicate=False)}
    assert {name: w.shape for name, w in model.named_parameters(remove_duplicate=False)} == shapes
    assert model(tiny_tokens()).logits.isfinite().all()
    timed = WholeTimer(model, Workload(2, 7, 5)).round()
    assert timed[0] > 0
