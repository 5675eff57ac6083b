"""gpt-oss: attention with sinks and biases, windows in every other layer, and a mixture of clamped gated experts with biases."""

from __future__ import annotations

from typing import Any

from puzzledsl.alternatives.shape import Shape
from puzzledsl.families.config import KINDS, MAX_WINDOW, Config, every, windowed
from puzzledsl.families.family import BIASES, Family, Mixture, Names, Part, Sizes, experts_fields

MAX_CLAMP = 1e6
"""Limit of the activation's constants, far above any model's (7) and in the range of every dtype."""


def _read(config: Config, sizes: dict[str, Any]) -> Shape:
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


FAMILY = Family(
    "gpt_oss",
    "GptOss",
    Sizes((), 64, 8, ("head_dim", "num_key_value_heads")),
    _read,
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
)
