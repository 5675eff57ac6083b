"""KV bytes against the caches that transformers fills, in every family, with windows and without; and against vLLM's pages."""

import json
import os
import subprocess
import sys
from fractions import Fraction
from math import ceil
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel, StaticCache

from puzzledsl.alternatives.gqa import GqaAttention
from puzzledsl.alternatives.linear import NoOpAttention, NoOpFfn
from puzzledsl.alternatives.mlp import MlpFfn
from puzzledsl.alternatives.parent import ParentAttention, ParentFfn
from puzzledsl.costs.flops import Workload
from puzzledsl.costs.memory import CACHE_BYTES
from puzzledsl.costs.roofline import line_of
from puzzledsl.export.write import write_export
from puzzledsl.ir.nodes import RooflineHardware, Shape
from puzzledsl.measure.whole import Widths, sizes_of
from puzzledsl.models.families.access import shape_of
from puzzledsl.models.families.load import load_parent
from tests.assembled import assemble
from tests.cases import more
from tests.child.checkpoint.test_checkpoint import Made
from tests.children import MIXED, Choice, define, random_pieces
from tests.costs.cases import PROFILES
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
    return PROFILES["h100_sxm"].model_copy(update={"kv_dtype": "fp32", "page_tokens": page})


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
@torch.inference_mode()
def test_kv_bytes_are_those_that_transformers_reads_and_allocates(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a cache that grows, and in a static one."""
    model = model_of(name)
    shape = shape_of(model.config)
    assert (shape.window is not None) == ("window" in name)
    assert counted(shape) == read_in_last_step(model, monkeypatch)
    own = sizes_of(shape, ParentAttention(), WORK, Widths.of(torch.float32))  # type: ignore[arg-type]
    assert shape.layers * own["kv_cache_bytes"] == counted(shape)
    cache = StaticCache(config=model.config, max_cache_len=PROMPT + OUTPUT)
    model(tiny_tokens(BATCH, PROMPT), cache=cache, use_cache=True)
    assert counted(shape) == sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)


@pytest.mark.parametrize(("cache", "number"), [("fp8", Fraction(1)), ("q8_0", Fraction(34, 32))])
@pytest.mark.parametrize("stored", ["bf16", "q8_0", *more("fp32", "fp8")])
def test_a_type_of_its_own_comes_before_the_hardware_s(cache: str, number: Fraction, stored: str) -> None:
    hardware = float32(1).model_copy(update={"kv_dtype": stored})
    shape = shape_of(model_of("llama").config)
    for plain in (ParentAttention(), GqaAttention(kv_heads=1), GqaAttention(kv_heads=1, window=5)):
        own = plain.in_cache(cache)  # type: ignore[arg-type]
        held = kv_cache_bytes(float32(1), shape, plain, WORK)
        assert kv_cache_bytes(hardware, shape, own, WORK) == ceil(held * number / 4)
        assert kv_cache_bytes(hardware, shape, plain, WORK) == ceil(held * CACHE_BYTES[stored] / 4)
        ours, theirs = (line_of(hardware, shape, a, WORK) for a in (own, plain))
        read = ours.decode.attention
        assert read * CACHE_BYTES[stored] == theirs.decode.attention * number and read > 0
        assert (ours.weights_bytes, ours.prefill.ns(1)) == (theirs.weights_bytes, theirs.prefill.ns(1))


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


VENV = Path(os.environ.get("PZL_VLLM_VENV") or Path(sys.prefix).parent / ".venv-vllm")
SPACE_GIB = 1
CHILD: tuple[Choice, ...] = (
    (ParentAttention(), ParentFfn()),
    (GqaAttention(kv_heads=2), MlpFfn(width=64)),
    (NoOpAttention(), ParentFfn()),
    (GqaAttention(kv_heads=1), NoOpFfn()),
    (ParentAttention(), MlpFfn(width=128)),
)
SCRIPT = """
import json, sys
import vllm
llm = vllm.LLM(model=sys.argv[1], dtype="bfloat16", enforce_eager=True, trust_remote_code=True, max_model_len=128,
               max_num_seqs=2, enable_prefix_caching=False, skip_tokenizer_init=True)
config = llm.llm_engine.vllm_config.cache_config
json.dump({"pages": config.num_gpu_blocks, "page_tokens": config.block_size}, open(sys.argv[2], "w"))
llm.llm_engine.engine_core.shutdown()
"""
ENVIRONMENT = {
    "VLLM_CPU_KVCACHE_SPACE": str(SPACE_GIB),
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_OFFLINE": "1",
}


@pytest.mark.slow
@pytest.mark.skipif(not (VENV / "bin" / "python").exists(), reason="needs vLLM: make vllm")
def test_pages_that_vllm_has_are_those_that_fit(tmp_path: Path) -> None:
    made = Made(tmp_path, CHILD, hidden=64, heads=8, kv_heads=4, head_dim=32, intermediate=128, vocab=260)
    target = tmp_path / "for-vllm"
    write_export(made.out, target, "hf", "vllm")
    answer = tmp_path / "answer.json"
    command = [str(VENV / "bin" / "python"), "-c", SCRIPT, str(target), str(answer)]
    variables = {**os.environ, **ENVIRONMENT, "PYTHONPATH": ""}
    done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=280)
    assert answer.exists(), done.stderr[-3000:]
    reported = json.loads(answer.read_text())
    shape = shape_of(load_parent(made.parent).config)
    page = reported["page_tokens"]
    hardware = PROFILES["h100_sxm"].model_copy(update={"kv_dtype": "bf16", "page_tokens": page})
    one_page = sum(kv_cache_bytes(hardware, shape, attention, Workload(1, page, 0)) for attention, _ in CHILD)
    assert reported["pages"] == SPACE_GIB * 2**30 // one_page
