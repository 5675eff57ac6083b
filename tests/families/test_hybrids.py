"""Readers of the hybrids' config.json: published sizes, what transformers builds, and configs that no model can have."""

from typing import Any

import pytest
import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

from puzzledsl.alternatives.weights import mixer_weights
from puzzledsl.families.config import BadConfig
from puzzledsl.families.registry import shape_of_config
from puzzledsl.ir.facts import total_params

PATTERN_56 = "M-M-M-MM-M-M-M*-M-M-M*-M-M-M-M*-M-M-M-M*-M-MM-M-M-M-M-M-"
NANO_9B_V2: dict[str, Any] = {
    "model_type": "nemotron_h", "hidden_size": 4480, "hybrid_override_pattern": PATTERN_56, "num_hidden_layers": 56,
    "num_attention_heads": 40, "num_key_value_heads": 8, "head_dim": 128, "intermediate_size": 15680,
    "ssm_state_size": 128, "mamba_num_heads": 128, "mamba_head_dim": 80, "n_groups": 8, "conv_kernel": 4,
    "vocab_size": 131072, "tie_word_embeddings": False,
}  # fmt: skip
"""config.json of nvidia/NVIDIA-Nemotron-Nano-9B-v2, the fields that give sizes."""
NANO_30B: dict[str, Any] = {
    "model_type": "nemotron_h", "hidden_size": 2688, "num_hidden_layers": 52, "num_attention_heads": 32,
    "hybrid_override_pattern": "MEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEMEM*EMEMEMEME", "num_key_value_heads": 2,
    "head_dim": 128, "intermediate_size": 1856, "ssm_state_size": 128, "mamba_num_heads": 64, "mamba_head_dim": 64,
    "n_groups": 8, "n_routed_experts": 128, "num_experts_per_tok": 6, "moe_intermediate_size": 1856,
    "moe_shared_expert_intermediate_size": 3712, "vocab_size": 131072, "tie_word_embeddings": False,
}  # fmt: skip
"""config.json of nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16."""
NEXT_80B: dict[str, Any] = {
    "model_type": "qwen3_next", "hidden_size": 2048, "num_hidden_layers": 48, "num_attention_heads": 16,
    "num_key_value_heads": 2, "head_dim": 256, "intermediate_size": 5120, "vocab_size": 151936,
    "tie_word_embeddings": False, "full_attention_interval": 4, "decoder_sparse_step": 1, "mlp_only_layers": [],
    "linear_conv_kernel_dim": 4, "linear_key_head_dim": 128, "linear_num_key_heads": 16,
    "linear_num_value_heads": 32, "linear_value_head_dim": 128, "moe_intermediate_size": 512, "num_experts": 512,
    "num_experts_per_tok": 10, "shared_expert_intermediate_size": 512, "partial_rotary_factor": 0.25,
}  # fmt: skip
"""config.json of Qwen/Qwen3-Next-80B-A3B-Instruct."""
TINY_NEMOTRON: dict[str, Any] = {
    "vocab_size": 50, "hidden_size": 24, "hybrid_override_pattern": "ME*-", "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "intermediate_size": 40, "ssm_state_size": 8, "mamba_num_heads": 4,
    "mamba_head_dim": 6, "n_groups": 2, "n_routed_experts": 3, "num_experts_per_tok": 1,
    "moe_intermediate_size": 12, "moe_shared_expert_intermediate_size": 10,
}  # fmt: skip
TINY_NEXT: dict[str, Any] = {
    "vocab_size": 50, "hidden_size": 24, "num_hidden_layers": 4, "mlp_only_layers": [1],
    "full_attention_interval": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8,
    "intermediate_size": 40, "linear_key_head_dim": 8, "linear_value_head_dim": 6, "linear_num_key_heads": 2,
    "linear_num_value_heads": 4, "num_experts": 3, "num_experts_per_tok": 1, "moe_intermediate_size": 12,
    "shared_expert_intermediate_size": 10,
}  # fmt: skip
QWEN35_27B: dict[str, Any] = {
    "model_type": "qwen3_5", "vision_config": {"depth": 27}, "text_config": {
        "model_type": "qwen3_5_text", "hidden_size": 5120, "num_hidden_layers": 64, "num_attention_heads": 24,
        "num_key_value_heads": 4, "head_dim": 256, "intermediate_size": 17408, "vocab_size": 248320,
        "full_attention_interval": 4, "linear_conv_kernel_dim": 4, "linear_key_head_dim": 128, "linear_num_key_heads": 16,
        "linear_num_value_heads": 48, "linear_value_head_dim": 128, "tie_word_embeddings": False,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e7, "partial_rotary_factor": 0.25},
    },
}  # fmt: skip
"""config.json of Qwen/Qwen3.5-27B, whose text part is read."""
TINY_MOE = {k: v for k, v in TINY_NEXT.items() if k not in ("mlp_only_layers", "intermediate_size")}
TINY_DENSE = {k: v for k, v in TINY_MOE.items() if "expert" not in k and "moe" not in k} | {
    "intermediate_size": 40
}
TINY = {
    "nemotron_h": TINY_NEMOTRON,
    "qwen3_next": TINY_NEXT,
    "qwen3_5_text": TINY_DENSE,
    "qwen3_5_moe_text": TINY_MOE,
}


@pytest.mark.parametrize(
    ("config", "published"),
    [
        (NANO_9B_V2, 8_888_227_328),
        # The published total counts no buffers: the correction bias of each of 23 routers, one number an expert.
        (NANO_30B, 31_577_937_344 + 23 * 128),
        # Qwen3-Coder-Next, without the extra layer for multi-token prediction of the Instruct model (81,324,862,720).
        (NEXT_80B, 79_674_391_296),
    ],
    ids=["nano-9b-v2", "nano-30b-a3b", "next-80b-a3b"],
)
def test_published_totals(config: dict[str, Any], published: int) -> None:
    assert total_params(shape_of_config(config)) == published


@pytest.mark.parametrize("family", TINY)
def test_mixers_have_the_weights_that_transformers_builds(family: str) -> None:
    config = CONFIG_MAPPING[family](**TINY[family])
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    shape = shape_of_config(config.to_dict() | {"model_type": family})
    checked = 0
    for own, layer in zip(shape.each, model.model.layers, strict=True):
        if own.mixer in ("mamba2", "delta_net"):
            held = layer.mixer if family == "nemotron_h" else layer.linear_attn
            wanted = {name: tuple(weight.shape) for name, weight in held.state_dict().items()}
            assert {name: weight.shape for name, weight in mixer_weights(own).items()} == wanted
            checked += 1
    assert checked
    assert total_params(shape) == sum(weight.numel() for weight in model.state_dict().values())


@pytest.mark.parametrize("family", TINY)
def test_two_gpus_share_a_mixer_by_groups(family: str) -> None:
    own = shape_of_config(TINY[family] | {"model_type": family}).at(0)
    for name, weight in mixer_weights(own).items():
        whole = weight.split is None
        assert weight.count(2) == weight.count(1) // (1 if whole else 2), name
        assert weight.count(16) == weight.count(2), name  # a group cannot be cut


@pytest.mark.parametrize(
    ("family", "change", "said"),
    [
        ("nemotron_h", {"hybrid_override_pattern": "MX"}, "hybrid_override_pattern"),
        ("nemotron_h", {"hybrid_override_pattern": None}, "hybrid_override_pattern"),
        ("nemotron_h", {"layers_block_type": ["mamba", 7]}, "layers_block_type"),
        ("nemotron_h", {"layers_block_type": []}, "layers_block_type"),
        ("nemotron_h", {"num_hidden_layers": 5}, "num_hidden_layers is 5"),
        ("nemotron_h", {"moe_latent_size": 8}, "moe_latent_size"),
        ("nemotron_h", {"n_group": 2}, "n_group"),
        ("nemotron_h", {"use_bias": True}, "use_bias"),
        ("nemotron_h", {"use_conv_bias": False}, "use_conv_bias"),
        ("nemotron_h", {"tie_word_embeddings": True}, "tie_word_embeddings"),
        ("nemotron_h", {"n_groups": 3}, "3 groups do not divide the 4 heads"),
        ("nemotron_h", {"num_experts_per_tok": 4}, "top_k"),
        ("nemotron_h", {"n_routed_experts": 1, "num_local_experts": 1, "num_experts_per_tok": 2}, "top_k=2 is more"),
        ("nemotron_h", {"ssm_state_size": 0}, "ssm_state_size"),
        ("qwen3_next", {"layer_types": ["linear_attention"] * 3}, "layer_types"),
        ("qwen3_next", {"layer_types": ["linear_attention"] * 3 + ["mamba"]}, "layer_types"),
        ("qwen3_next", {"mlp_only_layers": [4]}, "mlp_only_layers"),
        ("qwen3_next", {"linear_num_key_heads": 3}, "groups"),
        ("qwen3_next", {"full_attention_interval": 0}, "full_attention_interval"),
        ("qwen3_next", {"num_experts_per_tok": 4}, "top_k=4 is more than experts=3"),
        *(
            ("nemotron_h", {name: -1}, f"{name} is -1")
            for name in ("use_conv_bias", "intermediate_size", "moe_shared_expert_intermediate_size", "n_groups")
        ),
        *(("qwen3_next", {name: -1}, f"{name} is -1") for name in ("num_experts", "moe_intermediate_size")),
    ],
)  # fmt: skip
def test_a_config_that_no_model_can_have(family: str, change: dict[str, Any], said: str) -> None:
    content = TINY[family] | {"model_type": family}
    shape_of_config(content)
    with pytest.raises(BadConfig, match=said):
        shape_of_config(content | change)
