"""gpt-oss and Qwen3-MoE, whose FFNs are mixtures of experts."""

from typing import Any

from puzzledsl.alternatives.shape import Shape
from puzzledsl.families.config import KINDS, MAX_WINDOW, Config, channel_mixers, every, windowed
from puzzledsl.families.family import BIASES, Family, Mixture, Names, Part, Sizes, experts_fields

MAX_CLAMP = 1e6
"""Limit of the activation's constants, far above any model's (7) and in the range of every dtype."""


def _gpt_oss(config: Config, sizes: dict[str, Any]) -> Shape:
    """Read gpt-oss: attention with sinks and biases, windows in every other layer; clamped gated experts with biases."""
    for name in ("swiglu_alpha", "swiglu_limit"):
        config.check_number(name, MAX_CLAMP)
    bias = config.flag("attention_bias", True)
    sizes |= {"attention_bias": bias, "output_bias": bias, "expert_width": sizes["intermediate"]}
    shape = Shape(**sizes, **experts_fields(config, experts=128, top_k=4))
    alternating = [KINDS[not full] for full in every(shape.layers, 2)]
    kinds = config.words("layer_types", KINDS, shape.layers) or alternating
    if KINDS[1] not in kinds:
        return shape
    return windowed(shape, kinds, config.given("sliding_window", 128, MAX_WINDOW))


def _qwen3_moe(config: Config, sizes: dict[str, Any]) -> Shape:
    """Read Qwen3-MoE: Qwen3's attention; a softmax router over gated experts in all layers or in some."""
    uses = config.flag("use_sliding_window")
    shape = Shape(
        window=config.optional("sliding_window", 4096, 0, MAX_WINDOW) or None if uses else None,
        **sizes,
        **experts_fields(config, experts=128, top_k=8),
        expert_width=config.given("moe_intermediate_size", 768),
    )
    ffns = channel_mixers(config, shape.layers)
    return shape.with_layers([{"ffn": ffn} for ffn in ffns]) if "dense" in ffns else shape


FAMILIES = (
    Family(
        "gpt_oss",
        "GptOss",
        Sizes((), 64, 8, ("head_dim", "num_key_value_heads")),
        _gpt_oss,
        literal={
            "attention_bias": True,
            "output_bias": True,
            "mlp_bias": True,
            "router_bias": True,
            "sinks": True,
            "ffn": "moe",
            "full_every": 2,
            "window": 128,
        },
        names=lambda shape: Names(ffn=Part("mlp", "post_attention_layernorm", pair=True)),
        takes=("tied", *BIASES, "window", "experts", "top_k", "expert_width", "full_every"),
        quantised=("mxfp4",),
        mixture=Mixture("MLP", "num_local_experts", "intermediate_size", "interleaved", {"gate.": "router."}),
    ),
    Family(
        "qwen3_moe",
        "Qwen3Moe",
        Sizes(BIASES, kv_heads=4, not_null=("head_dim", "num_key_value_heads")),
        _qwen3_moe,
        literal={"qk_norm": True, "ffn": "moe"},
        takes=("tied", *BIASES, "window", "experts", "top_k", "expert_width", "dense_first"),
        mixture=Mixture(weights_sum_to_one=False),
    ),
)
