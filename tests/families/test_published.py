"""Parts of published models' config.json that few share: they are read, as what they are."""

from typing import Any

import pytest

from puzzledsl.families.registry import computation_of_config, shape_of_config


def _config(family: str, heads: int, hidden: int, **fields: Any) -> dict[str, Any]:
    sizes = {"num_hidden_layers": 4, "num_key_value_heads": 4, "intermediate_size": 512, "vocab_size": 1024}
    return {"model_type": family, "hidden_size": hidden, "num_attention_heads": heads, **sizes, **fields}


def _long(kind: str, count: int) -> dict[str, Any]:
    return {"type": kind, "short_factor": [1] * count, "long_factor": [1.07] * count}


GEMMA_ROPES = {
    "full_attention": {"factor": 8.0, "rope_theta": 1e6, "rope_type": "linear"},
    "sliding_attention": {"rope_theta": 1e4, "rope_type": "default"},
}
GEMMA: dict[str, Any] = {
    "hidden_activation": "gelu_pytorch_tanh", "final_logit_softcapping": None, "attn_logit_softcapping": None,
    "use_bidirectional_attention": False, "rope_parameters": GEMMA_ROPES,
}  # fmt: skip
OSS: dict[str, Any] = {
    "head_dim": 64, "attention_bias": True, "experts_per_token": 4, "num_local_experts": 32, "swiglu_limit": 7.0,
    "quantization_config": {"quant_method": "mxfp4", "modules_to_not_convert": ["lm_head"]},
    "rope_scaling": {"rope_type": "yarn", "factor": 32.0, "truncate": False},
}  # fmt: skip
PHI4 = {"rope_scaling": _long("longrope", 48), "partial_rotary_factor": 0.75}
YARN = {"type": "yarn", "factor": 16.0, "finetuned": True}
PUBLISHED: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "Phi-3-mini-128k, first": (_config("phi3", 32, 3072, rope_scaling=_long("su", 48)), ("longrope",)),
    "Phi-4-mini": (_config("phi3", 24, 3072, **PHI4), ("longrope", "partial")),
    "Mistral-7B-v0.3": (_config("mistral", 32, 4096, head_dim=None, sliding_window=None), ("default",)),
    "gemma-3-4b, of transformers 5": (_config("gemma3_text", 8, 2560, **GEMMA), ("default", "linear")),
    "gpt-oss-20b": (_config("gpt_oss", 64, 2880, **OSS), ("yarn",)),
    "Yarn-Llama-2": (_config("llama", 32, 4096, rope_scaling=YARN), ("yarn",)),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_configs_are_read(name: str) -> None:
    content, ropes = PUBLISHED[name]
    assert shape_of_config(content).layers == 4
    found = computation_of_config(content)
    assert (found.ropes, found.activation, found.weights_of_all) == (ropes, "", False)
