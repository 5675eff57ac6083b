"""Windows that differ from layer to layer."""

from __future__ import annotations

from collections.abc import Sequence

from puzzledsl.alternatives.shape import Shape
from puzzledsl.families.config import MAX_WINDOW, Config

KINDS = ("full_attention", "sliding_attention")


def windowed(shape: Shape, kinds: Sequence[str], window: int) -> Shape:
    """Return the shape whose layers of kind `sliding_attention` see `window` tokens."""
    return shape.with_layers([{"window": window if kind == KINDS[1] else None} for kind in kinds])


def upper_windows(config: Config, shape: Shape) -> Shape:
    """Return the shape of a Qwen: if it uses windows, `layer_types`, or the layers from `max_window_layers` on, have one."""
    if not config.flag("use_sliding_window"):
        return shape
    window = config.optional("sliding_window", 4096, 0, MAX_WINDOW)
    first = config.optional("max_window_layers", 28, 28)
    kinds = config.words("layer_types", KINDS, shape.layers) or [
        KINDS[i >= first] for i in range(shape.layers)
    ]
    return windowed(shape, kinds, window) if window else shape
