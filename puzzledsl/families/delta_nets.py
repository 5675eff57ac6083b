"""Qwen3-Next, Qwen3.5 and Qwen3.6: three gated delta nets (arXiv 2412.06464) to one gated attention.

Their channel mixers are dense FFNs, or mixtures with a gated shared expert. From Qwen3.5 on, a delta net has four input maps,
and published checkpoints see pictures, too.
"""

from functools import partial
from typing import Any

from puzzledsl.alternatives.shape import Shape, StateShape
from puzzledsl.families.config import Config, channel_mixers, every
from puzzledsl.families.family import BIASES, Family, Names, Part, Sizes

KINDS = {"linear_attention": "delta_net", "full_attention": "attention"}
EXPERTS = ("experts", "top_k", "expert_width", "shared_width")


def _read(config: Config, sizes: dict[str, Any], *, experts: int = 0, top_k: int = 0, ffn: str = "") -> Shape:
    """Return the shape. `experts`, `top_k`: defaults; 0 experts: no mixtures. `ffn`: kind of all FFNs; empty: by layer."""
    if experts:
        sizes |= {
            "experts": config.given("num_experts", experts),
            "top_k": config.given("num_experts_per_tok", top_k),
            "expert_width": config.given("moe_intermediate_size", 512),
            "shared_width": config.given("shared_expert_intermediate_size", 512),
        }
    state = StateShape(
        heads=config.given("linear_num_value_heads", 32),
        head_dim=config.given("linear_value_head_dim", 128),
        groups=config.given("linear_num_key_heads", 16),
        state=config.given("linear_key_head_dim", 128),
        conv=config.given("linear_conv_kernel_dim", 4),
    )
    shape = Shape(state=state, **sizes)
    words = config.words("layer_types", tuple(KINDS), shape.layers)
    if words is None:
        attends = every(shape.layers, config.given("full_attention_interval", 4))
        words = tuple("full_attention" if here else "linear_attention" for here in attends)
    mixers = [KINDS[word] for word in words]
    ffns = [ffn] * shape.layers if ffn else channel_mixers(config, shape.layers)
    return shape.with_layers([{"mixer": m, "ffn": f} for m, f in zip(mixers, ffns, strict=True)])


def _names(shape: Shape) -> Names:
    """Return the usual names, or those of a layer with a delta net."""
    return Names(Part("linear_attn", "input_layernorm")) if shape.mixer == "delta_net" else Names()


def _family(
    model_type: str, prefix: str, kv_heads: int, literal: dict[str, Any], dense: bool = True, **more: Any
) -> Family:
    usual = {"qk_norm": True, "output_gate": True, "mixer": "delta_net", "attention_every": 4}
    takes = ("tied", *BIASES, "attention_every", "mixer", *(EXPERTS if "ffn" in literal else ()))
    sizes = Sizes(BIASES, 256, kv_heads, ("head_dim", "num_key_value_heads"), dense)
    return Family(model_type, prefix, sizes, literal=usual | literal, takes=takes, names=_names, **more)


_MIXTURE = {"ffn": "moe", "shared_gate": True}
_PICTURES: dict[str, Any] = {"published": {"model.language_model.": "model."}, "others": ("model.visual.",)}
FAMILIES = (
    _family("qwen3_next", "Qwen3Next", 2, _MIXTURE, read=partial(_read, experts=512, top_k=10)),
    _family(
        "qwen3_5_text",
        "Qwen3_5",
        4,
        {"delta_maps": 4},
        read=partial(_read, ffn="dense"),
        whole="qwen3_5",
        package="qwen3_5",
        config_prefix="Qwen3_5Text",
        **_PICTURES,
    ),
    _family(
        "qwen3_5_moe_text",
        "Qwen3_5Moe",
        2,
        {**_MIXTURE, "delta_maps": 4},
        dense=False,
        read=partial(_read, experts=256, top_k=8, ffn="moe"),
        whole="qwen3_5_moe",
        package="qwen3_5_moe",
        config_prefix="Qwen3_5MoeText",
        **_PICTURES,
    ),
)
