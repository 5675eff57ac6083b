"""Llama and the models that share its code, such as SmolLM2."""

from __future__ import annotations

from puzzledsl.alternatives.shape import Shape
from puzzledsl.families.config import Config
from puzzledsl.families.family import BIASES, Family, dense_fields


def _read(config: Config) -> Shape:
    bias = config.flag("attention_bias")
    return Shape(
        family="llama",
        tied=config.flag("tie_word_embeddings"),
        attention_bias=bias,
        output_bias=bias,
        mlp_bias=config.flag("mlp_bias"),
        **dense_fields(config),
    )


FAMILY = Family("llama", "Llama", _read, whole_heads=True, takes=("tied", *BIASES, "mlp_bias"))
