"""Qwen3, dense: queries and keys are normalised a head."""

from __future__ import annotations

from puzzledsl.alternatives.shape import Shape
from puzzledsl.families.config import Config
from puzzledsl.families.family import BIASES, Family, dense_fields
from puzzledsl.families.layouts import upper_windows


def _read(config: Config) -> Shape:
    bias = config.flag("attention_bias")
    shape = Shape(
        family="qwen3",
        tied=config.flag("tie_word_embeddings"),
        attention_bias=bias,
        output_bias=bias,
        qk_norm=True,
        **dense_fields(config, head_dim=128, kv_heads=32, not_null=("head_dim",)),
    )
    return upper_windows(config, shape)


FAMILY = Family(
    "qwen3",
    "Qwen3",
    _read,
    literal={"qk_norm": True},
    takes=("tied", *BIASES, "window", "full_every"),
)
