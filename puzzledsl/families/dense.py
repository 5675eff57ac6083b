"""Dense families whose layers are built much as Llama's: Llama, Mistral, Qwen2, Qwen3, Phi-3, Granite, OLMo 2 and SmolLM3."""

from typing import Any

from puzzledsl.alternatives.shape import Shape
from puzzledsl.families.config import KINDS, MAX_WINDOW, Config, every, windowed
from puzzledsl.families.family import BIASES, Family, Names, Part, Sizes


def _mistral(config: Config, sizes: dict[str, Any]) -> Shape:
    """Read Mistral: a window in every layer; none if `sliding_window` is null."""
    silent = config.content.get("sliding_window", 0) is None
    window = None if silent else config.optional("sliding_window", 4096, 4096, MAX_WINDOW)
    return Shape(window=window, **sizes)


def _qwen(config: Config, sizes: dict[str, Any]) -> Shape:
    """Read Qwen2 or Qwen3: windows, if used, are in layers by `layer_types`, or from `max_window_layers` on."""
    shape = Shape(**sizes)
    if not config.flag("use_sliding_window"):
        return shape
    window = config.optional("sliding_window", 4096, 0, MAX_WINDOW)
    first = config.optional("max_window_layers", 28, 28, low=0)
    usual = [KINDS[i >= first] for i in range(shape.layers)]
    kinds = config.words("layer_types", KINDS, shape.layers) or usual
    return windowed(shape, kinds, window) if window else shape


def _phi3(config: Config, sizes: dict[str, Any]) -> Shape:
    """Read Phi-3: a window in every layer if `sliding_window` is set."""
    return Shape(window=config.optional("sliding_window", 0, 0, MAX_WINDOW) or None, **sizes)


def _smollm3(config: Config, sizes: dict[str, Any]) -> Shape:
    """Read SmolLM3: some layers have no rotary embedding; windows, if used, are in these unless `layer_types` says else."""
    shape = Shape(**sizes)
    interval = config.given("no_rope_layer_interval", 4)
    rope = config.flags("no_rope_layers", shape.layers)
    if rope is None:
        rope = tuple(not bare for bare in every(shape.layers, interval))
    window = config.optional("sliding_window", 0, 0, MAX_WINDOW) if config.flag("use_sliding_window") else 0
    kinds = config.words("layer_types", KINDS, shape.layers) or [KINDS[not here] for here in rope]
    windows = [window if window and kind == KINDS[1] else None for kind in kinds]
    return shape.with_layers([{"rope": r, "window": w} for r, w in zip(rope, windows, strict=True)])


_ALL_BIASES = (*BIASES, "mlp_bias")
_GRANITE = Names(factor="residual_multiplier")
_OLMO2 = Names(
    attention=Part("self_attn", behind="post_attention_layernorm", pair=True),
    ffn=Part("mlp", behind="post_feedforward_layernorm"),
)
FAMILIES = (
    Family("llama", "Llama", Sizes(_ALL_BIASES, not_null=()), whole_heads=True, takes=("tied", *_ALL_BIASES)),
    Family(
        "mistral",
        "Mistral",
        Sizes(kv_heads=8, not_null=("num_key_value_heads",)),
        _mistral,
        takes=("tied", "window"),
    ),
    Family(
        "qwen2",
        "Qwen2",
        Sizes(kv_heads=32),
        _qwen,
        literal={"attention_bias": True},
        takes=("tied", "window", "full_every"),
    ),
    Family(
        "qwen3",
        "Qwen3",
        Sizes(BIASES, head_dim=128, kv_heads=32),
        _qwen,
        literal={"qk_norm": True},
        takes=("tied", *BIASES, "window", "full_every"),
    ),
    Family(
        "phi3",
        "Phi3",
        Sizes(not_null=("head_dim", "partial_rotary_factor")),
        _phi3,
        takes=("tied", "window"),
        ropes={"default": "default", **dict.fromkeys(("longrope", "su", "yarn"), "longrope")},
        joined={"qkv_proj": ("q_proj", "k_proj", "v_proj"), "gate_up_proj": ("gate_proj", "up_proj")},
    ),
    Family(
        "granite",
        "Granite",
        Sizes(_ALL_BIASES),
        takes=("tied", *_ALL_BIASES),
        names=lambda shape: _GRANITE,
        logits_divisor="logits_scaling",
    ),
    Family(
        "olmo2",
        "Olmo2",
        Sizes(BIASES),
        literal={"qk_norm": True, "qk_norm_whole": True},
        takes=("tied", *BIASES),
        names=lambda shape: _OLMO2,
    ),
    Family(
        "smollm3",
        "SmolLM3",
        Sizes(_ALL_BIASES, kv_heads=4),
        _smollm3,
        literal={"no_rope_every": 4, "tied": True},
        takes=("tied", *_ALL_BIASES, "window", "no_rope_every"),
    ),
)
