"""Size of a search space."""

from __future__ import annotations

from math import fsum, log10

from puzzledsl.ir.nodes import Space


def alternatives_per_layer(space: Space) -> tuple[int, ...]:
    """Return the number of blocks (attention x FFN pairs) that each layer can choose."""
    return tuple(len(layer.attention) * len(layer.ffn) for layer in space.layers)


def log10_children(space: Space) -> float:
    """Return the decimal logarithm of the number of children: 80 layers of 54 blocks give 138.6."""
    return fsum(log10(count) for count in alternatives_per_layer(space))
