"""KV caches of other types: their rounding is that of the engines, and it is the same with a cache and without one."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import DynamicCache

from puzzledsl.alternatives.gqa import GqaAttention
from puzzledsl.alternatives.parent import ParentAttention, ParentFfn
from puzzledsl.alternatives.precision import CACHES
from puzzledsl.child.checkpoint.contents import Chosen, load_child
from puzzledsl.child.checkpoint.write import realise
from puzzledsl.models.families.access import layers
from puzzledsl.models.families.load import load_parent
from puzzledsl.models.families.rounded_cache import fp8, q8_0, rounded
from tests import oracle_caches
from tests.children import Choice, define, random_pieces
from tests.oracle_forward import oracle_logits
from tests.tiny import save_tiny


def numbers(*size: int, scale: float = 1.0) -> Tensor:
    """Numbers of many magnitudes, zeros and halves of a step among them."""
    generator = torch.Generator().manual_seed(7)
    found = torch.randn(*size, generator=generator) * torch.rand(size[0], *[1] * (len(size) - 1)) * scale
    found.view(-1)[::17] = 0
    found.view(-1)[:32] = torch.arange(32) / 2
    return found


@pytest.mark.parametrize("scale", [1.0, 1e-3, 300.0, 1e5])
def test_fp8_is_torch_s_type_with_a_scale_of_one(scale: float) -> None:
    given = numbers(40, 64, scale=scale)
    small = given.clamp(-448, 448)
    assert torch.equal(fp8(given), small.to(torch.float8_e4m3fn).float())
    assert fp8(torch.tensor([1e9, -1e9, 449.0, 0.0])).tolist() == [448, -448, 448, 0]
    assert np.array_equal(oracle_caches.fp8(given.double().numpy()), fp8(given.double()).numpy())


@pytest.mark.parametrize("scale", [1.0, 1e-3, 300.0])
def test_q8_0_is_llama_cpp_s_bit_for_bit(scale: float) -> None:
    gguf = pytest.importorskip("gguf")
    given = numbers(40, 64, scale=scale)
    kind = gguf.GGMLQuantizationType.Q8_0
    wanted = gguf.quants.dequantize(gguf.quants.quantize(given.numpy(), kind), kind)
    assert np.array_equal(q8_0(given).numpy(), wanted)


@pytest.mark.parametrize("channels", [32, 64, 96, 128, 192])
@pytest.mark.parametrize("dtype", CACHES)
def test_keys_and_values_are_those_of_the_oracle(dtype: str, channels: int) -> None:
    # no halves of a step, which sums of another order would round apart
    generator = torch.Generator().manual_seed(channels)
    keys, values = torch.randn(2, 2, 3, 5, channels, generator=generator, dtype=torch.float64)
    found = rounded(dtype, keys, values)
    wanted = oracle_caches.stored(keys.numpy(), values.numpy(), dtype)
    for own, other, exact in zip(found, wanted, (keys, values), strict=True):
        assert np.abs(own.numpy() - other).max() <= 1e-12 * float(exact.abs().max())
        assert 1e-4 < float((own - exact).norm() / exact.norm()) < 0.05


LAYERS: tuple[Choice, ...] = (
    (ParentAttention(kv_cache="q8_0"), ParentFfn()),
    (GqaAttention(kv_heads=1, kv_cache="fp8"), ParentFfn()),
    (GqaAttention(kv_heads=2, window=5, sinks=1, kv_cache="q8_0"), ParentFfn()),
    (ParentAttention(), ParentFfn()),
)
SIZES = {"head_dim": 32, "hidden": 64, "scale": 0.15}


def made(folder: Path, family: str = "llama", own: tuple[Choice, ...] = LAYERS) -> Path:
    """A child on disk."""
    parent = save_tiny(folder / "parent", family, layers=len(own), **SIZES)
    pieces = random_pieces(load_parent(parent), tuple((a.of_piece, f) for a, f in own))
    realise(define(own), parent, pieces, folder / "child")
    return folder / "child"


TOKENS = [7, 200, 31, 90, 12, 77, 105, 41, 9, 180, 66]


@torch.no_grad()
@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma3_text", "olmo2"])
def test_a_child_is_the_oracle_s(family: str, tmp_path: Path) -> None:
    directory = made(tmp_path, family)
    child: Any = load_child(directory, dtype=torch.float64)
    found = child(torch.tensor([TOKENS]), use_cache=False).logits[0].numpy()
    wanted = oracle_logits(directory, TOKENS)
    assert np.abs(found - wanted).max() <= 1e-5 * np.abs(wanted).max()
    plain: Any = load_child(made(tmp_path / "plain", family, tuple((a.of_piece, f) for a, f in LAYERS)))
    unrounded = plain(torch.tensor([TOKENS]), use_cache=False).logits[0].numpy()
    assert np.abs(unrounded - wanted).max() > 1e-4 * np.abs(wanted).max()


def test_a_cache_gives_what_one_pass_does_and_gradients_pass_the_rounding(tmp_path: Path) -> None:
    """Weights of keys and values learn as if nothing were rounded, at the rounded point."""
    child, tokens = load_child(made(tmp_path), dtype=torch.float64), torch.tensor([TOKENS])
    cache, whole = DynamicCache(config=child.config), child(tokens, use_cache=False).logits
    rows = [child(part, cache=cache).logits for part in tokens.split([4, *[1] * 7], 1)]
    assert torch.allclose(torch.cat(rows, 1), whole, atol=1e-10)
    child.requires_grad_(True)
    child(torch.tensor([TOKENS]), use_cache=False).logits.square().mean().backward()
    for layer in child.model.layers:
        for part in (layer.self_attn.k_proj, layer.self_attn.v_proj):
            assert torch.isfinite(part.weight.grad).all() and part.weight.grad.abs().max() > 0


@torch.no_grad()
def test_the_parent_rounds_nothing_when_a_child_of_its_modules_does(tmp_path: Path) -> None:
    model: Any = load_parent(save_tiny(tmp_path / "parent", "llama", layers=1, **SIZES))
    before = model(torch.tensor([TOKENS])).logits
    rounding = Chosen(0, "attention", ParentAttention(kv_cache="fp8"), None)
    module, weights = rounding.module(model, layers(model)[0], lambda _: {})
    own = layers(model)[0].self_attn
    assert module is not own and not weights
    assert module.q_proj is own.q_proj, "no weight is copied"
    assert torch.equal(model(torch.tensor([TOKENS])).logits, before)
