"""The example's parent in another order of channels: the same function, and no run of a row as it was."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.examples.test_texts import load
from tests.tiny import tiny_model

channels = load("channels")


@pytest.mark.parametrize("tied", [True, False])
def test_the_function_is_unchanged(tied: bool) -> None:
    model: Any = tiny_model(tied=tied).double()
    tokens = torch.arange(40).view(2, 20) % model.config.vocab_size
    before = model(tokens).logits
    weights = {name: weight.detach().numpy() for name, weight in model.named_parameters()}
    found = channels.permute(weights, model.config.to_dict(), seed=5)
    moved = [name for name, weight in found.items() if (weight != weights[name]).any()]
    assert {name.split(".")[-2] for name in moved} >= {"q_proj", "v_proj", "o_proj", "up_proj", "down_proj"}
    model.load_state_dict({name: torch.from_numpy(weight) for name, weight in found.items()}, strict=False)
    assert (model(tokens).logits - before).abs().max() < 1e-5  # norms are float32


def test_a_seed_is_an_order() -> None:
    model: Any = tiny_model()
    weights = {name: weight.detach().numpy() for name, weight in model.named_parameters()}
    one, same, other = (channels.permute(weights, model.config.to_dict(), seed) for seed in (1, 1, 2))
    assert all((one[name] == same[name]).all() for name in weights)
    assert any((one[name] != other[name]).any() for name in weights)
