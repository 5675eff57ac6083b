"""Fields of a config.json about mixtures of experts."""

from __future__ import annotations

from typing import Any

from puzzledsl.alternatives.shape import Shape
from puzzledsl.families.config import BadConfig, Config

MAX_EXPERTS = 4096


def experts_fields(config: Config, *, experts: int, top_k: int) -> dict[str, Any]:
    """Return the kind and the counts of a mixture. `experts`, `top_k`: what transformers takes if a field is missing.

    Checkpoints name the count `num_experts` or `num_local_experts`.
    """
    names = [name for name in ("num_experts", "num_local_experts") if name in config.content]
    counts = [config.whole(name, MAX_EXPERTS) for name in names] or [experts]
    if len(set(counts)) > 1:
        raise BadConfig(" and ".join(f"{name} is {count}" for name, count in zip(names, counts, strict=True)))
    return {"ffn": "moe", "experts": counts[0], "top_k": config.given("num_experts_per_tok", top_k)}


def sparse_layers(config: Config, shape: Shape) -> Shape:
    """Return the shape whose layers of `mlp_only_layers`, and those that `decoder_sparse_step` skips, have a dense FFN."""
    step = config.given("decoder_sparse_step", 1)
    dense = set(config.indices("mlp_only_layers", shape.layers))
    dense |= {layer for layer in range(shape.layers) if (layer + 1) % step}
    if not dense:
        return shape
    return shape.with_layers([{"ffn": "dense" if layer in dense else "moe"} for layer in range(shape.layers)])
