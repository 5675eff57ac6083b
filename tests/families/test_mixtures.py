"""Readers of mixtures of experts: sizes of published models, layers of two kinds, and fields that contradict each other."""

from typing import Any

import pytest

from puzzledsl.alternatives.parent import PARENTS
from puzzledsl.families.config import BadConfig
from puzzledsl.families.registry import FAMILIES, shape_of_config, shape_of_literal
from puzzledsl.ir.facts import total_params
from tests.sizes import active_params

QWEN3: dict[str, Any] = {
    "model_type": "qwen3_moe", "hidden_size": 2048, "intermediate_size": 6144, "num_hidden_layers": 48,
    "num_attention_heads": 32, "num_key_value_heads": 4, "head_dim": 128, "moe_intermediate_size": 768,
    "num_experts": 128, "num_experts_per_tok": 8, "decoder_sparse_step": 1, "mlp_only_layers": [],
    "sliding_window": None, "use_sliding_window": False, "vocab_size": 151936, "tie_word_embeddings": False,
}  # fmt: skip
QWEN3_235B = QWEN3 | {
    "hidden_size": 4096, "intermediate_size": 12288, "num_hidden_layers": 94, "num_attention_heads": 64,
    "moe_intermediate_size": 1536,
}  # fmt: skip
GPT_OSS: dict[str, Any] = {
    "model_type": "gpt_oss", "hidden_size": 2880, "intermediate_size": 2880, "num_hidden_layers": 36,
    "num_attention_heads": 64, "num_key_value_heads": 8, "head_dim": 64, "num_local_experts": 128,
    "num_experts_per_tok": 4, "sliding_window": 128, "vocab_size": 201088, "attention_bias": True,
    "tie_word_embeddings": False,
}  # fmt: skip
GPT_OSS_20B = GPT_OSS | {"num_hidden_layers": 24, "num_local_experts": 32}


@pytest.mark.parametrize(
    ("content", "total", "active", "embedding"),
    [
        # Qwen3's model cards: 30.5B and 3.3B activated; 235B and 22B activated
        (QWEN3, 30_532_122_624, "3.35", True),
        (QWEN3_235B, 235_093_634_560, "22.19", True),
        # OpenAI, gpt-oss model card, table 1: 116.83B and 5.13B active, 20.91B and 3.61B active, without the embedding
        (GPT_OSS, 116_829_156_672, "5.13", False),
        (GPT_OSS_20B, 20_914_757_184, "3.61", False),
    ],
)
def test_published_sizes(content: dict[str, Any], total: int, active: str, embedding: bool) -> None:
    shape = shape_of_config(content)
    assert total_params(shape) == total
    used = active_params(shape) - (0 if embedding else shape.vocab * shape.hidden)
    assert f"{used / 1e9:.2f}" == active


def test_gpt_oss_has_windows_in_every_other_layer_sinks_and_biases() -> None:
    shape = shape_of_config(GPT_OSS_20B)
    assert [own.window for own in shape.each][:4] == [128, None, 128, None]
    attention, ffn = (PARENTS[name].weights(shape.at(1)) for name in ("attention", "ffn"))
    assert attention["sinks"].shape == (64,) and attention["o_proj.bias"].shape == (2880,)
    assert ffn["gate.bias"].shape == (32,) and ffn["experts.31.down_proj.bias"].shape == (2880,)
    listed = ["full_attention"] * 23 + ["sliding_attention"]
    assert [own.window for own in shape_of_config(GPT_OSS_20B | {"layer_types": listed}).each][22:] == [
        None,
        128,
    ]
    with pytest.raises(BadConfig, match="layer_types is not a list of 24 words"):
        shape_of_config(GPT_OSS_20B | {"layer_types": listed[1:]})


@pytest.mark.parametrize(
    ("content", "change", "reason"),
    [
        *(
            (QWEN3, {name: value}, f"{name} is {said}")
            for name, value, said in (
                ("num_experts", None, "null"),
                ("moe_intermediate_size", None, "null"),
                ("mlp_only_layers", 3, "3"),
                ("decoder_sparse_step", 0, "0"),
            )
        ),
        (GPT_OSS, {"num_experts": 64}, "num_experts is 64 and num_local_experts is 128"),
        (GPT_OSS, {"num_experts_per_tok": 129}, "top_k=129 is more than experts=128"),
        (QWEN3, {"quantization_config": {"quant_method": "mxfp4"}}, "its weights are quantised by"),
    ],
)
def test_what_contradicts_itself_is_refused_by_name(
    content: dict[str, Any], change: dict[str, Any], reason: str
) -> None:
    with pytest.raises(BadConfig, match=reason):
        shape_of_config(content | change)


@pytest.mark.parametrize("content", [QWEN3, QWEN3_235B, GPT_OSS, GPT_OSS_20B])
def test_a_literal_gives_the_shape_of_config_json(content: dict[str, Any]) -> None:
    shape = shape_of_config(content)
    sizes = ("layers", "hidden", "heads", "kv_heads", "head_dim", "vocab", "experts", "top_k", "expert_width")
    written = {name: getattr(shape, name) for name in sizes}
    assert shape_of_literal(FAMILIES[shape.family], written) == shape
