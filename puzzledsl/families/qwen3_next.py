"""Qwen3-Next: three gated delta nets (arXiv 2412.06464) to one gated attention, and mixtures with a gated shared expert."""

from __future__ import annotations

from typing import Any

from puzzledsl.alternatives.shape import Shape, StateShape
from puzzledsl.families.config import Config, every
from puzzledsl.families.family import BIASES, Family, Names, Part, dense_fields

KINDS = {"linear_attention": "delta_net", "full_attention": "attention"}


def _read(config: Config) -> Shape:
    not_null = ("head_dim", "num_key_value_heads")
    sizes = dense_fields(config, "qwen3_next", flags=BIASES, head_dim=256, kv_heads=2, not_null=not_null)
    layers = sizes["layers"]
    shape = Shape(
        qk_norm=True,
        output_gate=True,
        experts=config.given("num_experts", 512),
        top_k=config.given("num_experts_per_tok", 10),
        expert_width=config.given("moe_intermediate_size", 512),
        shared_width=config.given("shared_expert_intermediate_size", 512),
        shared_gate=True,
        state=StateShape(
            heads=config.given("linear_num_value_heads", 32),
            head_dim=config.given("linear_value_head_dim", 128),
            groups=config.given("linear_num_key_heads", 16),
            state=config.given("linear_key_head_dim", 128),
            conv=config.given("linear_conv_kernel_dim", 4),
        ),
        **sizes,
    )
    mixers = _mixers(config, layers)
    sparse = every(layers, config.given("decoder_sparse_step", 1))
    dense = set(config.indices("mlp_only_layers", layers))
    ffns = ["moe" if sparse[layer] and layer not in dense else "dense" for layer in range(layers)]
    return shape.with_layers([{"mixer": m, "ffn": f} for m, f in zip(mixers, ffns, strict=True)])


def _mixers(config: Config, layers: int) -> list[str]:
    """Return each layer's mixer: `layer_types`, or attention in every fourth layer."""
    words = config.words("layer_types", tuple(KINDS), layers)
    if words is not None:
        return [KINDS[word] for word in words]
    attends = every(layers, config.given("full_attention_interval", 4))
    return ["attention" if here else "delta_net" for here in attends]


def _names(shape: Shape) -> Names:
    """Return the usual names, or those of a layer with a delta net."""
    return Names(Part("linear_attn", "input_layernorm")) if shape.mixer == "delta_net" else Names()


_LITERAL: dict[str, Any] = {
    "qk_norm": True,
    "output_gate": True,
    "shared_gate": True,
    "ffn": "moe",
    "mixer": "delta_net",
    "attention_every": 4,
}
FAMILY = Family(
    "qwen3_next",
    "Qwen3Next",
    _read,
    literal=_LITERAL,
    takes=("tied", *BIASES, "attention_every", "mixer", "experts", "top_k", "expert_width", "shared_width"),
    names=_names,
)
