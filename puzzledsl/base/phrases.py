"""Lists in messages: `a, b and c`, `layers 0-4, 7`."""

from __future__ import annotations

from collections.abc import Sequence

SHOWN_LAYERS = 8


def listed(parts: Sequence[object], last: str = "and") -> str:
    """Join parts as `a`, `a and b`, or `a, b and c`, with `last` before the last one."""
    *most, end = map(str, parts)
    return f"{', '.join(most)} {last} {end}" if most else end


def layer_ranges(layers: Sequence[int]) -> str:
    """Format ascending layers as `layer 3` or `layers 0-4, 7`."""
    runs: list[list[int]] = []
    for layer in layers:
        if runs and layer == runs[-1][1] + 1:
            runs[-1][1] = layer
        else:
            runs.append([layer, layer])
    text = ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)
    return ("layer " if len(layers) == 1 else "layers ") + text


def first_layers(layers: Sequence[int]) -> str:
    """Format ascending layers as `layer 3`, `layers 2 to 9`, or the first SHOWN_LAYERS of several runs and `…`."""
    if len(layers) == 1:
        return f"layer {layers[0]}"
    if list(layers) == list(range(layers[0], layers[-1] + 1)):
        return f"layers {layers[0]} to {layers[-1]}"
    more = " …" if len(layers) > SHOWN_LAYERS else ""
    return "layers " + ", ".join(map(str, layers[:SHOWN_LAYERS])) + more
