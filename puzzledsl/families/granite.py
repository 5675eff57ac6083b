"""Granite 3: Llama with factors of the embedding, of attention scores, of what sub-blocks add, and of the logits."""

from __future__ import annotations

from puzzledsl.alternatives.shape import Shape
from puzzledsl.families.config import Config
from puzzledsl.families.family import BIASES, Family, Names, dense_fields


def _read(config: Config) -> Shape:
    bias = config.flag("attention_bias")
    return Shape(
        family="granite",
        tied=config.flag("tie_word_embeddings"),
        attention_bias=bias,
        output_bias=bias,
        mlp_bias=config.flag("mlp_bias"),
        **dense_fields(config, not_null=("head_dim",)),
    )


NAMES = Names(factor="residual_multiplier")
FAMILY = Family(
    "granite",
    "Granite",
    _read,
    takes=("tied", *BIASES, "mlp_bias"),
    names=lambda shape: NAMES,
    logits_divisor="logits_scaling",
)
