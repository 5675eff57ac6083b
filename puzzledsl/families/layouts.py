"""Layers that differ from each other by a rule: every n-th, the first n, or a pattern of letters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from puzzledsl.alternatives.shape import Shape
from puzzledsl.families.config import MAX_WINDOW, Config

LETTERS: Mapping[str, Mapping[str, str]] = {
    "M": {"mixer": "mamba2", "ffn": "none"},
    "*": {"mixer": "attention", "ffn": "none"},
    "-": {"mixer": "none", "ffn": "dense"},
    "E": {"mixer": "none", "ffn": "moe"},
}
"""Letter of a pattern -> the layer's only sub-block."""
KINDS = ("full_attention", "sliding_attention")
"""Words of `layer_types`."""


def every(layers: int, n: int) -> list[bool]:
    """Return True for every n-th layer: n - 1, 2n - 1 and so on."""
    return [(layer + 1) % n == 0 for layer in range(layers)]


def by_pattern(letters: str) -> list[Mapping[str, str]]:
    """Return mixer and FFN of each letter's layer. Raises KeyError for an unknown letter."""
    return [LETTERS[letter] for letter in letters]


def laid_out(shape: Shape, rules: Mapping[str, Any]) -> Shape:
    """Return the shape whose layers differ as these layer arguments of a literal say. Raises KeyError as `by_pattern`."""
    layers: list[dict[str, Any]] = [{} for _ in range(shape.layers)]

    def put(key: str, values: list[Any]) -> None:
        for layer, value in zip(layers, values, strict=True):
            layer[key] = value

    if "pattern" in rules:
        for layer, only in zip(layers, by_pattern(rules["pattern"]), strict=True):
            layer |= only
    if "attention_every" in rules:
        attends = every(shape.layers, rules["attention_every"])
        put("mixer", ["attention" if here else shape.mixer for here in attends])
    if "full_every" in rules:
        put("window", [None if full else shape.window for full in every(shape.layers, rules["full_every"])])
    if "no_rope_every" in rules:
        put("rope", [not bare for bare in every(shape.layers, rules["no_rope_every"])])
    if "dense_first" in rules:
        put("ffn", ["dense" if i < rules["dense_first"] else shape.ffn for i in range(shape.layers)])
    return shape.with_layers(layers) if any(layers) else shape


def canonical(shape: Shape) -> Shape:
    """Return the shape without the sizes that no layer uses, so that equal parents have equal shapes."""
    kinds = [own for own, _ in shape.kinds()] if shape.by_layer or shape.base else [shape]
    unused: dict[str, Any] = {}
    if not any(own.ffn == "dense" for own in kinds):
        unused |= {"intermediate": 0}
    if not any(own.ffn == "moe" for own in kinds):
        unused |= dict.fromkeys(("experts", "top_k", "expert_width", "shared_width"), 0)
    if not any(own.mixer in ("mamba2", "delta_net") for own in kinds):
        unused |= {"state": None}
    changed = {name: value for name, value in unused.items() if getattr(shape, name) != value}
    return shape.model_copy(update=changed) if changed else shape


def windowed(shape: Shape, kinds: Sequence[str], window: int) -> Shape:
    """Return the shape whose layers of kind `sliding_attention` see `window` tokens."""
    return shape.with_layers([{"window": window if kind == KINDS[1] else None} for kind in kinds])


def upper_windows(config: Config, shape: Shape) -> Shape:
    """Return the shape of a Qwen: if it uses windows, `layer_types`, or the layers from `max_window_layers` on, have one."""
    if not config.flag("use_sliding_window"):
        return shape
    window = config.optional("sliding_window", 4096, 0, MAX_WINDOW)
    first = config.optional("max_window_layers", 28, 28, low=0)
    kinds = config.words("layer_types", KINDS, shape.layers) or [
        KINDS[i >= first] for i in range(shape.layers)
    ]
    return windowed(shape, kinds, window) if window else shape


def sparse_layers(config: Config, shape: Shape) -> Shape:
    """Return the shape whose layers of `mlp_only_layers`, and those that `decoder_sparse_step` skips, have a dense FFN."""
    step = config.given("decoder_sparse_step", 1)
    dense = set(config.indices("mlp_only_layers", shape.layers))
    dense |= {layer for layer in range(shape.layers) if (layer + 1) % step}
    if not dense:
        return shape
    return shape.with_layers([{"ffn": "dense" if layer in dense else "moe"} for layer in range(shape.layers)])
