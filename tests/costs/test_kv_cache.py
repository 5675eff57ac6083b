"""KV bytes against the caches that transformers fills, in every family, with windows and without."""

from __future__ import annotations

from fractions import Fraction
from math import ceil

import pytest
import torch
from transformers import PreTrainedModel, StaticCache

from puzzledsl.alternatives.gqa import GqaAttention
from puzzledsl.alternatives.parent import ParentAttention
from puzzledsl.checker.check import shipped_profiles
from puzzledsl.costs.flops import Workload
from puzzledsl.costs.memory import CACHE_BYTES
from puzzledsl.costs.roofline import line_of
from puzzledsl.ir.nodes import RooflineHardware, Shape
from puzzledsl.measure.whole import Widths, sizes_of
from puzzledsl.models.families.access import shape_of
from tests.assembled import assemble
from tests.children import MIXED, define, random_pieces
from tests.profiles import kv_cache_bytes
from tests.tiny import tiny_model, tiny_tokens

BATCH, PROMPT, OUTPUT = 3, 11, 6
WORK = Workload(BATCH, PROMPT, OUTPUT)
FAMILIES: dict[str, dict[str, object]] = {
    "llama": {},
    "smollm2": {"family": "llama", "heads": 9, "kv_heads": 3, "hidden": 36, "tied": True},
    "mistral": {"sliding_window": None},
    "mistral, window": {"family": "mistral", "sliding_window": 8},
    "mistral, long window": {"family": "mistral", "sliding_window": 64},
    "qwen2": {},
    "qwen3": {"kv_heads": 4},
}


def model_of(name: str) -> PreTrainedModel:
    sizes = dict(FAMILIES[name])
    return tiny_model(str(sizes.pop("family", name)), **sizes)  # type: ignore[arg-type]


def float32(page: int) -> RooflineHardware:
    return shipped_profiles()["h100_sxm"].model_copy(update={"kv_dtype": "fp32", "page_tokens": page})


def counted(shape: Shape, page: int = 1) -> int:
    return sum(kv_cache_bytes(float32(page), own, ParentAttention(), WORK) for own in shape.each)


@torch.inference_mode()
def read_in_last_step(model: PreTrainedModel, monkeypatch: pytest.MonkeyPatch) -> int:
    """Bytes of keys and values that the attentions read in the last of `OUTPUT` decode steps."""
    tokens = tiny_tokens(BATCH, PROMPT + OUTPUT)
    cache = model(tokens[:, :PROMPT], use_cache=True).cache
    read: list[int] = []
    for layer in cache.layers:

        def update(*args: object, real=layer.update, **kwargs: object) -> tuple[torch.Tensor, torch.Tensor]:  # type: ignore[no-untyped-def]
            found = real(*args, **kwargs)
            read.append(sum(states.nbytes for states in found))
            return found

        monkeypatch.setattr(layer, "update", update)
    for step in range(PROMPT, PROMPT + OUTPUT):
        read.clear()
        model(tokens[:, step : step + 1], cache=cache, use_cache=True)
    return sum(read)


@pytest.mark.parametrize("name", FAMILIES)
def test_kv_bytes_are_those_that_transformers_reads(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of(name)
    shape = shape_of(model.config)
    assert (shape.window is not None) == ("window" in name)
    assert counted(shape) == read_in_last_step(model, monkeypatch)
    own = sizes_of(shape, ParentAttention(), WORK, Widths.of(torch.float32))  # type: ignore[arg-type]
    assert shape.layers * own["kv_cache_bytes"] == counted(shape)


@pytest.mark.parametrize("name", FAMILIES)
@torch.inference_mode()
def test_kv_bytes_are_those_that_a_static_cache_allocates(name: str) -> None:
    model = model_of(name)
    cache = StaticCache(config=model.config, max_cache_len=PROMPT + OUTPUT)
    model(tiny_tokens(BATCH, PROMPT), cache=cache, use_cache=True)
    allocated = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)
    assert counted(shape_of(model.config)) == allocated


@pytest.mark.parametrize("page", [1, 2, 7, 16, 64])
def test_pages_are_whole(page: int) -> None:
    shape = shape_of(model_of("qwen2").config)
    assert counted(shape, page) * (PROMPT + OUTPUT) == counted(shape) * (-(-(PROMPT + OUTPUT) // page) * page)


@pytest.mark.parametrize(("cache", "number"), [("fp8", Fraction(1)), ("q8_0", Fraction(34, 32))])
@pytest.mark.parametrize("stored", ["fp32", "bf16", "fp8", "q8_0"])
def test_a_type_of_its_own_comes_before_the_hardware_s(cache: str, number: Fraction, stored: str) -> None:
    hardware = float32(1).model_copy(update={"kv_dtype": stored})
    shape = shape_of(model_of("llama").config)
    for plain in (ParentAttention(), GqaAttention(kv_heads=1), GqaAttention(kv_heads=1, window=5)):
        own = plain.in_cache(cache)  # type: ignore[arg-type]
        held = kv_cache_bytes(float32(1), shape, plain, WORK)
        assert kv_cache_bytes(hardware, shape, own, WORK) == ceil(held * number / 4)
        assert kv_cache_bytes(hardware, shape, plain, WORK) == ceil(held * CACHE_BYTES[stored] / 4)
        lines = [line_of(hardware, shape, a, WORK) for a in (own, plain)]
        read = [line.decode.attention for line in lines]
        assert read[0] * CACHE_BYTES[stored] == read[1] * number and read[0] > 0
        assert lines[0].weights_bytes == lines[1].weights_bytes and lines[0].prefill.ns(1) == lines[
            1
        ].prefill.ns(1)


def test_a_policy_that_grows_holds_half_the_output_on_the_mean() -> None:
    shape = shape_of(model_of("llama").config)
    mean = float32(1).model_copy(update={"kv_policy": "mean"})
    held = kv_cache_bytes(mean, shape, ParentAttention(), WORK)
    assert held * shape.layers * (PROMPT + OUTPUT) == counted(shape) * (PROMPT + OUTPUT // 2)
    assert kv_cache_bytes(mean, shape, GqaAttention(kv_heads=shape.kv_heads, window=8), WORK) * 14 == held * 8


def test_a_child_s_cache_is_the_sum_of_its_attentions(monkeypatch: pytest.MonkeyPatch) -> None:
    """No-op, 1 KV head, linear, 2 KV heads with a window, whose cache lets go of what no query will see."""
    parent = tiny_model("llama", layers=4, heads=4, kv_heads=4)
    shape = shape_of(parent.config)
    child = assemble(parent, define(MIXED), random_pieces(parent, MIXED))
    alternatives = [attention for attention, _ in MIXED]
    held = [kv_cache_bytes(float32(1), shape, a, WORK) for a in alternatives]
    assert sum(held) == read_in_last_step(child, monkeypatch)
    unlimited = kv_cache_bytes(float32(1), shape, GqaAttention(kv_heads=2), WORK)
    assert held[3] * (PROMPT + OUTPUT) == unlimited * 5
