"""Dense families that share Llama's code: Llama, Mistral, Qwen2, Qwen3, Phi-3, Granite, OLMo 2 and SmolLM3."""

from __future__ import annotations

from puzzledsl.alternatives.shape import Shape
from puzzledsl.families.config import KINDS, MAX_WINDOW, Config, every, upper_windows
from puzzledsl.families.family import BIASES, Family, Names, Part, dense_fields


def _llama(config: Config) -> Shape:
    return Shape(**dense_fields(config, "llama", flags=(*BIASES, "mlp_bias"), not_null=()))


def _mistral(config: Config) -> Shape:
    """A window in every layer."""
    silent = config.content.get("sliding_window", 0) is None
    window = None if silent else config.optional("sliding_window", 4096, 4096, MAX_WINDOW)
    sizes = dense_fields(config, "mistral", kv_heads=8, not_null=("num_key_value_heads",))
    return Shape(window=window, **sizes)


def _qwen2(config: Config) -> Shape:
    """Qwen2 and Qwen2.5: biases on queries, keys and values, and windows in some layers if asked for."""
    return upper_windows(config, Shape(attention_bias=True, **dense_fields(config, "qwen2", kv_heads=32)))


def _qwen3(config: Config) -> Shape:
    """Queries and keys are normalised a head."""
    sizes = dense_fields(config, "qwen3", flags=BIASES, head_dim=128, kv_heads=32)
    return upper_windows(config, Shape(qk_norm=True, **sizes))


def _phi3(config: Config) -> Shape:
    """Phi-3 and Phi-4: queries, keys and values in one projection, and gate and up in another."""
    window = config.optional("sliding_window", 0, 0, MAX_WINDOW) or None
    sizes = dense_fields(config, "phi3", not_null=("head_dim", "partial_rotary_factor"))
    return Shape(window=window, **sizes)


def _granite(config: Config) -> Shape:
    """Granite 3: factors of the embedding, of attention scores, of what sub-blocks add, and of the logits."""
    return Shape(**dense_fields(config, "granite", flags=(*BIASES, "mlp_bias")))


def _olmo2(config: Config) -> Shape:
    """Norms stand behind the sub-blocks, and queries and keys are normalised over all heads."""
    return Shape(qk_norm=True, qk_norm_whole=True, **dense_fields(config, "olmo2", flags=BIASES))


def _smollm3(config: Config) -> Shape:
    """Some layers have no rotary embedding."""
    sizes = dense_fields(config, "smollm3", flags=(*BIASES, "mlp_bias"), tied=True, kv_heads=4)
    shape = Shape(**sizes)
    interval = config.given("no_rope_layer_interval", 4)
    rope = config.flags("no_rope_layers", shape.layers)
    if rope is None:
        rope = tuple(not bare for bare in every(shape.layers, interval))
    window = config.optional("sliding_window", 0, 0, MAX_WINDOW) if config.flag("use_sliding_window") else 0
    kinds = config.words("layer_types", KINDS, shape.layers) or [KINDS[not here] for here in rope]
    return shape.with_layers(
        [
            {"rope": here, "window": window if window and kind == KINDS[1] else None}
            for here, kind in zip(rope, kinds, strict=True)
        ]
    )


_GRANITE = Names(factor="residual_multiplier")
_OLMO2 = Names(
    attention=Part("self_attn", behind="post_attention_layernorm", pair=True),
    ffn=Part("mlp", behind="post_feedforward_layernorm"),
)
FAMILIES = (
    Family("llama", "Llama", _llama, whole_heads=True, takes=("tied", *BIASES, "mlp_bias")),
    Family("mistral", "Mistral", _mistral, takes=("tied", "window")),
    Family(
        "qwen2", "Qwen2", _qwen2, literal={"attention_bias": True}, takes=("tied", "window", "full_every")
    ),
    Family(
        "qwen3", "Qwen3", _qwen3, literal={"qk_norm": True}, takes=("tied", *BIASES, "window", "full_every")
    ),
    Family(
        "phi3",
        "Phi3",
        _phi3,
        takes=("tied", "window"),
        ropes={"default": "default", **dict.fromkeys(("longrope", "su", "yarn"), "longrope")},
        joined={"qkv_proj": ("q_proj", "k_proj", "v_proj"), "gate_up_proj": ("gate_proj", "up_proj")},
    ),
    Family(
        "granite",
        "Granite",
        _granite,
        takes=("tied", *BIASES, "mlp_bias"),
        names=lambda shape: _GRANITE,
        logits_divisor="logits_scaling",
    ),
    Family(
        "olmo2",
        "Olmo2",
        _olmo2,
        literal={"qk_norm": True, "qk_norm_whole": True},
        takes=("tied", *BIASES),
        names=lambda shape: _OLMO2,
    ),
    Family(
        "smollm3",
        "SmolLM3",
        _smollm3,
        literal={"no_rope_every": 4, "tied": True},
        takes=("tied", *BIASES, "mlp_bias", "window", "no_rope_every"),
    ),
)
