"""Mistral: Llama with a window in every layer."""

from __future__ import annotations

from puzzledsl.alternatives.shape import Shape
from puzzledsl.families.config import MAX_WINDOW, Config
from puzzledsl.families.family import Family, dense_fields


def _read(config: Config) -> Shape:
    window = (
        None
        if config.content.get("sliding_window", 0) is None
        else config.optional("sliding_window", 4096, 4096, MAX_WINDOW)
    )
    return Shape(
        family="mistral",
        tied=config.flag("tie_word_embeddings"),
        window=window,
        **dense_fields(config, kv_heads=8, not_null=("num_key_value_heads",)),
    )


FAMILY = Family("mistral", "Mistral", _read, takes=("tied", "window"))
