"""Description of a model family: its reader of config.json, and the places of its modules and weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from puzzledsl.alternatives.shape import Shape
from puzzledsl.families.config import MAX_LAYERS, MAX_VOCAB, Config


@dataclass(frozen=True, slots=True)
class Names:
    """Attributes of a layer that hold its sub-blocks and their norms; prefixes of their weights as well."""

    attention: str = "self_attn"
    ffn: str = "mlp"
    attention_norms: tuple[str, ...] = ("input_layernorm",)
    ffn_norms: tuple[str, ...] = ("post_attention_layernorm",)


@dataclass(frozen=True, slots=True)
class Family:
    """A family. Its classes are transformers' own, in `transformers.models.{model_type}.modeling_{model_type}`."""

    model_type: str
    prefix: str
    """Start of its classes' names: `Llama` of LlamaForCausalLM, LlamaAttention, LlamaMLP."""
    read: Callable[[Config], Shape]
    """Return the shape that a config.json describes. Raises BadConfig."""
    literal: Mapping[str, Any] = field(default_factory=dict)
    """Fields of a shape, and rules for its layers (`families.literal`), where a `shape(…)` does not write them."""
    takes: tuple[str, ...] = ()
    """Arguments that a `shape(…)` of it takes beside the usual ones (`families.literal`)."""
    names: Callable[[Shape], Names] = lambda shape: Names()
    """Return the names inside a layer of this (layer's) shape."""
    layers: str = "model.layers"
    embedding: str = "model.embed_tokens"
    final_norm: str = "model.norm"
    head: str = "lm_head"


def dense_fields(
    config: Config, *, head_dim: int | None = None, kv_heads: int | None = None
) -> dict[str, Any]:
    """Return the sizes that nearly all families name alike.

    `head_dim`, `kv_heads`: what transformers takes if the field is missing (None: hidden / heads, and all heads).
    """
    hidden, heads = config.whole("hidden_size"), config.whole("num_attention_heads")
    return {
        "layers": config.whole("num_hidden_layers", MAX_LAYERS),
        "hidden": hidden,
        "heads": heads,
        "kv_heads": config.optional("num_key_value_heads", kv_heads or heads, heads),
        "head_dim": config.optional("head_dim", head_dim or hidden // heads, hidden // heads),
        "intermediate": config.whole("intermediate_size"),
        "vocab": config.whole("vocab_size", MAX_VOCAB),
    }
