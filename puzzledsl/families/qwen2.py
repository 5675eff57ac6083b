"""Qwen2 and Qwen2.5: Llama with biases on queries, keys and values, and windows in some layers if asked for."""

from __future__ import annotations

from puzzledsl.alternatives.shape import Shape
from puzzledsl.families.config import Config
from puzzledsl.families.family import Family, dense_fields
from puzzledsl.families.layouts import upper_windows


def _read(config: Config) -> Shape:
    shape = Shape(
        family="qwen2",
        tied=config.flag("tie_word_embeddings"),
        attention_bias=True,
        **dense_fields(config, kv_heads=32, not_null=("head_dim",)),
    )
    return upper_windows(config, shape)


FAMILY = Family(
    "qwen2", "Qwen2", _read, literal={"attention_bias": True}, takes=("tied", "window", "full_every")
)
