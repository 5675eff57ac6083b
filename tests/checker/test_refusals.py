"""Refusals of a runtime stand where an export is declared, from config.json; nothing is left to the export itself."""

import json
from pathlib import Path
from typing import Any

import pytest
from transformers.activations import ACT2FN
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from puzzledsl.base.diagnostics import Diagnostic
from puzzledsl.checker.check import check
from puzzledsl.families.registry import ACTIVATIONS, FAMILIES, ROPES

LLAMA: dict[str, Any] = {
    "model_type": "llama", "num_hidden_layers": 4, "hidden_size": 64, "num_attention_heads": 8, "num_key_value_heads": 4,
    "head_dim": 8, "intermediate_size": 192, "vocab_size": 256,
}  # fmt: skip
MIXTURE = {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
MOE = LLAMA | MIXTURE | {"model_type": "qwen3_moe"}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
YARN = {"type": "yarn", "factor": 4.0}
WINDOW, HEADS = "attention = parent | gqa(window: 32), ffn = parent", "attention = parent | gqa(kv_heads: 2)"
FEWER = "ffn = parent | moe(experts: 4)"
GGUF, MLX, HF, VLLM = 'gguf("c.gguf")', 'mlx("c")', 'hf("c")', 'hf("c", runtime: vllm)'


def told(folder: Path, config: dict[str, Any], space: str, export: str) -> list[Diagnostic]:
    (folder / "parent").mkdir(exist_ok=True)
    (folder / "parent" / "config.json").write_text(json.dumps(config))
    (folder / "t.pzl").write_text(
        f'parent p = hf("parent")\nspace w of p {{ {space} }}\nscore kl of w = table("kl.csv")\n'
        f"search s of w {{ minimize kl }}\nexport e of s = {export}\n"
    )
    before = sorted(folder.rglob("*"))
    found = check(folder / "t.pzl", {})
    assert sorted(folder.rglob("*")) == before
    return [diagnostic for diagnostic in found.diagnostics if diagnostic.severity == "error"]


@pytest.mark.parametrize(
    ("config", "space", "export", "expected"),
    [
        (LLAMA | {"rope_scaling": LLAMA3}, HEADS, GGUF, ""),
        (LLAMA | {"rope_scaling": LLAMA3}, WINDOW, GGUF, "E0472 sliding window"),
        (LLAMA | {"model_type": "qwen3", "rope_scaling": LLAMA3}, WINDOW, GGUF, "E0471 `llama3`"),
        (LLAMA | {"rope_scaling": YARN}, HEADS, GGUF, "E0471 `yarn`"),
        (LLAMA | {"rope_scaling": YARN}, HEADS, VLLM, ""),
        (LLAMA | {"rope_scaling": YARN | {"type": "dynamic"}}, HEADS, VLLM, "E0471 `dynamic`"),
        (LLAMA | {"rope_scaling": YARN | {"type": "dynamic"}}, HEADS, HF, ""),
        (LLAMA | {"partial_rotary_factor": 0.5}, HEADS, GGUF, "E0471 whole heads"),
        (LLAMA | {"rope_parameters": LLAMA3 | {"factor": None}}, HEADS, HF, "E0407 factor"),
        (LLAMA | {"rope_parameters": {"rope_type": "spiral"}}, HEADS, HF, "E0407 longrope"),
        (LLAMA | {"hidden_act": "gelu"}, HEADS, GGUF, "E0471 SiLU"),
        (LLAMA | {"hidden_act": "gelu"}, HEADS, HF, ""),
        (MOE | {"hidden_act": "gelu"}, FEWER, VLLM, "E0471 SiLU"),
        (LLAMA | {"hidden_act": "sine"}, HEADS, HF, "E0407 hidden_act"),
        (LLAMA | {"hidden_size": 4, "head_dim": None}, HEADS, HF, "E0407 less than the number of heads, 8"),
        (LLAMA | {"model_type": "gemma3_text", "sliding_window": None}, HEADS, HF, "E0407 sliding_window is null"),
        (LLAMA | {"num_attention_heads": 12}, HEADS, HF, "E0407 no multiple"),
        (MOE, FEWER, GGUF, "E0472 sum of 1"),
        (MOE, "ffn = moe(experts: 4)", GGUF, ""),
        (MOE | {"norm_topk_prob": True}, FEWER, GGUF, ""),
        (LLAMA, "ffn = parent(dtype: q8_0 | q4_1 | q4_0)", GGUF, ""),
        (LLAMA, "ffn = parent(dtype: full | q8_0)", 'gguf("c.gguf", dtype: q4_k_m)', "E0475 `q8_0`"),
        (LLAMA, HEADS, 'gguf("c.gguf", dtype: iq4_xs)', ""),
        (LLAMA, "ffn = parent(dtype: int8)", GGUF, "E0472 `q8_0`, `q5_0`, `q4_1`, `q4_0`, `iq4_nl`"),
        (LLAMA, "ffn = parent(dtype: int8 | int4 | fp8)", VLLM, ""),
        (LLAMA, "ffn = parent(dtype: q8_0)", VLLM, "E0472 compressed-tensors"),
        (LLAMA, "ffn = parent(dtype: fp8)", MLX, "E0472 it has `q8_0`"),
        (LLAMA, "ffn = parent(dtype: q8_0 | q4_1 | q4_0 | int4)", MLX, ""),
        (LLAMA, "ffn = parent(dtype: q4_0), attention = parent | gqa(window: 8, kv_heads: 2)", GGUF, ""),
        (MOE, "ffn = parent(dtype: int8)", HF, "E0472 one tensor"),
        (MOE, "ffn = parent(dtype: q8_0)", GGUF, ""),
    ],
)  # fmt: skip
def test_what_config_json_says_is_asked_about(
    tmp_path: Path, config: dict[str, Any], space: str, export: str, expected: str
) -> None:
    found = told(tmp_path, config, space, export)
    assert all(d.span is not None and d.help for d in found if d.code != "E0407")
    if not expected:
        assert not found
        return
    code, _, words = expected.partition(" ")
    assert found and all(d.code == code and words in d.message for d in found)
    assert {d.span.line for d in found if d.span is not None} == {1 if code == "E0407" else 5}


@pytest.mark.parametrize("export", [MLX, GGUF, VLLM])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_runs_or_is_refused_in_its_line(tmp_path: Path, family: str, export: str) -> None:
    """By its name, with runtimes that can; transformers' own code runs every one."""
    extra = {"sliding_window": 32, "n_routed_experts": 8, "num_local_experts": 8}
    config = MOE | extra | {"model_type": family, "hybrid_override_pattern": "M*-E"}
    space = "attention = parent | noop, ffn = parent | noop"
    assert not told(tmp_path, config, space, HF)
    for diagnostic in told(tmp_path, config, space, export):
        assert diagnostic.code in ("E0471", "E0472") and diagnostic.span is not None
        assert diagnostic.span.line == 5 and diagnostic.help is not None
        assert family in diagnostic.message or diagnostic.code == "E0472"
        assert "runtime: transformers" in diagnostic.help


BYTES = {"type": "BPE", "vocab": {"a": 0}, "merges": []}
WORDS = {"type": "Whitespace"}


@pytest.mark.parametrize(
    ("tokenizer", "export", "reason"),
    [
        ({"model": BYTES, "pre_tokenizer": {"type": "ByteLevel"}}, GGUF, ""),
        ({"model": BYTES | {"byte_fallback": True}, "pre_tokenizer": WORDS}, GGUF, ""),
        ({"model": BYTES, "pre_tokenizer": WORDS}, GGUF, "Whitespace"),
        ({"model": BYTES, "pre_tokenizer": WORDS}, MLX, ""),
        ({"model": BYTES | {"type": "Unigram"}}, GGUF, "Unigram"),
        ({"model": {}}, GGUF, "merges"),
        ({"model": BYTES, "pre_tokenizer": [1]}, GGUF, "not as tokenizers write it"),
        (7, GGUF, "merges"),
    ],
)
def test_a_tokenizer_that_no_gguf_file_holds(
    tmp_path: Path, tokenizer: object, export: str, reason: str
) -> None:
    (tmp_path / "parent").mkdir()
    (tmp_path / "parent" / "tokenizer.json").write_text(json.dumps(tokenizer))
    found = told(tmp_path, LLAMA, HEADS, export)
    assert [d.code for d in found] == ["E0737"] * bool(reason)
    assert all(reason in d.message and d.span is not None and d.span.line == 5 for d in found)


def test_the_known_words_are_those_of_transformers() -> None:
    assert {"default", *ROPE_INIT_FUNCTIONS} == set(ROPES)
    assert set(ACTIVATIONS) <= set(ACT2FN)
