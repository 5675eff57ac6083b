"""SmolLM3: Llama with layers that have no rotary embedding."""

from __future__ import annotations

from puzzledsl.alternatives.shape import Shape
from puzzledsl.families.config import MAX_WINDOW, Config
from puzzledsl.families.family import BIASES, Family, dense_fields
from puzzledsl.families.layouts import KINDS, every


def _read(config: Config) -> Shape:
    bias = config.flag("attention_bias")
    shape = Shape(
        family="smollm3",
        tied=config.flag("tie_word_embeddings", absent=True),
        attention_bias=bias,
        output_bias=bias,
        mlp_bias=config.flag("mlp_bias"),
        **dense_fields(config, kv_heads=4, not_null=("head_dim",)),
    )
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


FAMILY = Family(
    "smollm3",
    "SmolLM3",
    _read,
    literal={"no_rope_every": 4, "tied": True},
    takes=("tied", *BIASES, "mlp_bias", "window", "no_rope_every"),
)
