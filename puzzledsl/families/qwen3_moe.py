"""Qwen3 mixtures of experts: Qwen3's attention, and a softmax router over gated experts in all layers or in some."""

from __future__ import annotations

from typing import Any

from puzzledsl.alternatives.shape import Shape
from puzzledsl.families.config import MAX_WINDOW, Config, channel_mixers
from puzzledsl.families.family import BIASES, Family, Mixture, Sizes, experts_fields


def _read(config: Config, sizes: dict[str, Any]) -> Shape:
    windowed = config.flag("use_sliding_window")
    shape = Shape(
        window=config.optional("sliding_window", 4096, 0, MAX_WINDOW) or None if windowed else None,
        **sizes,
        **experts_fields(config, experts=128, top_k=8),
        expert_width=config.given("moe_intermediate_size", 768),
    )
    ffns = channel_mixers(config, shape.layers)
    return shape.with_layers([{"ffn": ffn} for ffn in ffns]) if "dense" in ffns else shape


FAMILY = Family(
    "qwen3_moe",
    "Qwen3Moe",
    Sizes(BIASES, kv_heads=4, not_null=("head_dim", "num_key_value_heads")),
    _read,
    literal={"qk_norm": True, "ffn": "moe"},
    takes=("tied", *BIASES, "window", "experts", "top_k", "expert_width", "dense_first"),
    mixture=Mixture(weights_sum_to_one=False),
)
