"""A mixture's down projections are one linear map, and healing fits it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from puzzledsl.alternatives.moe import MoeFfn
from puzzledsl.alternatives.parent import ParentAttention
from puzzledsl.base.progress import Silent
from puzzledsl.child.healing import experts
from puzzledsl.child.healing.experts import stacked_experts
from puzzledsl.child.healing.walk import heal
from puzzledsl.models.alternatives.build import build_alternative
from puzzledsl.models.families.access import layers
from puzzledsl.models.families.slots import weights_of
from tests.children import define, random_pieces
from tests.tiny import tiny_model, tiny_tokens

SMALLER = MoeFfn(experts=4, top_k=2, width=8)


def parent(count: int = 1):
    return tiny_model("qwen3_moe", layers=count, mlp_only_layers=[])


def test_split_before_its_down_projections_a_mixture_gives_the_same():
    block = layers(parent())[0].mlp
    x = torch.randn(2, 9, 24, generator=torch.Generator().manual_seed(0))
    stacked = stacked_experts(block)
    assert stacked is not None
    assert torch.allclose(stacked.down(stacked(x)), block(x), atol=1e-5)


def test_the_stacked_map_holds_each_experts_own():
    block = layers(parent())[0].mlp
    stacked = stacked_experts(block)
    assert stacked is not None
    downs, own = dict(stacked.downs()), weights_of(block)
    assert set(downs) == {name for name in own if name.endswith("down_proj.weight")}
    assert all(torch.equal(weight, own[name]) for name, weight in downs.items())
    stacked.down.weight.zero_()
    assert not any(weight.any() for weight in downs.values())
    assert all(weights_of(block)[name].any() for name in downs), "the parent's weights stay"


def test_mixtures_with_biases_or_too_many_channels_are_not_split(monkeypatch: pytest.MonkeyPatch):
    assert stacked_experts(layers(tiny_model("gpt_oss"))[0].mlp) is None
    monkeypatch.setattr(experts, "MOST_CHANNELS", 6 * 16 - 1)
    assert stacked_experts(layers(parent())[0].mlp) is None


def test_healed_experts_are_nearer_to_the_parent(tmp_path: Path):
    model = parent(3)
    chosen = [(ParentAttention(), SMALLER)] * 3
    pieces = random_pieces(model, chosen)
    texts = tiny_tokens(96, 16, seed=1), tiny_tokens(8, 16, seed=2)
    result = heal(model, define(chosen).layers, pieces, *texts, tmp_path, Silent())
    assert result.kl_after < 0.9 * result.kl_before
    names = set(weights_of(build_alternative(model, 0, SMALLER)))
    fitted = {name.partition("layers.1.mlp.")[2] for name in result.weights if "layers.1.mlp." in name}
    assert fitted == {name for name in names if name.endswith("down_proj.weight")}
