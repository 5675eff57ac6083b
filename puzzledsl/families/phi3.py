"""Phi-3 and Phi-4: Llama with queries, keys and values in one projection, and gate and up in another."""

from __future__ import annotations

from puzzledsl.alternatives.shape import Shape
from puzzledsl.families.config import MAX_WINDOW, Config
from puzzledsl.families.family import Family, dense_fields


def _read(config: Config) -> Shape:
    return Shape(
        family="phi3",
        tied=config.flag("tie_word_embeddings"),
        window=config.optional("sliding_window", 0, 0, MAX_WINDOW) or None,
        **dense_fields(config, not_null=("head_dim", "partial_rotary_factor")),
    )


FAMILY = Family(
    "phi3",
    "Phi3",
    _read,
    takes=("tied", "window"),
    ropes={"default": "default", **dict.fromkeys(("longrope", "su", "yarn"), "longrope")},
    joined={"qkv_proj": ("q_proj", "k_proj", "v_proj"), "gate_up_proj": ("gate_proj", "up_proj")},
)
