"""Layers of a parent in words: what they differ in, and its mixtures of experts."""

from __future__ import annotations

from typing import assert_never

from puzzledsl.alternatives.alternative import MIXERS
from puzzledsl.base.phrases import layers_in_words
from puzzledsl.ir.nodes import Shape


def layer_kinds(shape: Shape) -> list[str]:
    """Return a line for each kind of layer, such as `layers 0..4: window 1,024`; none for alike layers with dense FFNs."""
    kinds = [*shape.kinds()]
    differing = {name for name in Shape.model_fields if len({getattr(own, name) for own, _ in kinds}) > 1} - {
        "by_layer",
        "base",
    }
    if not differing and shape.ffn == "dense":
        return []
    lines: list[str] = []
    for own, layers in kinds:
        words = [part for part in (*_mixer(own, differing), *_ffn(own, differing)) if part]
        where = layers_in_words(layers) if len(kinds) > 1 else "every layer"
        lines.append(f"{where}: {', '.join(words)}")
    return lines


def _mixer(own: Shape, differing: set[str]) -> list[str]:
    match own.mixer:
        case "none":
            return []
        case "linear":
            return ["a matrix in place of attention"]
        case "mamba2" | "delta_net":
            return [MIXERS[own.mixer]]
        case "attention":
            heads = f"{own.heads} heads, {own.kv_heads} KV heads" if differing & {"heads", "kv_heads"} else ""
            window = "all tokens" if own.window is None else f"window {own.window:,}"
            return [
                "attention" if "mixer" in differing else "",
                heads,
                window if "window" in differing else "",
                "no rotary embedding" if "rope" in differing and not own.rope else "",
            ]
        case _:
            assert_never(own.mixer)


def _ffn(own: Shape, differing: set[str]) -> list[str]:
    match own.ffn:
        case "none":
            return []
        case "linear":
            return ["a matrix in place of the FFN"]
        case "dense":
            return [f"FFN of {own.intermediate:,}"] if differing & {"ffn", "intermediate"} else []
        case "moe":
            shared = [f"{own.shared_width:,} shared"] if own.shared_width else []
            return [f"{own.experts} experts of {own.expert_width:,}, {own.top_k} a token", *shared]
        case _:
            assert_never(own.ffn)
