"""Runs of consecutive layers: those that a score measures, and those that count in a child."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from puzzledsl.alternatives.alternative import SUB_BLOCKS, absent
from puzzledsl.ir.nodes import LayerChoice, Shape

Run = tuple[int, int]
"""First layer, number of layers."""
Names = tuple[str, str]
"""Names of a layer's attention and FFN."""


def dropped_names(shape: Shape) -> list[Names | None]:
    """Return the choice that drops each layer: a no-op for each sub-block that it has. None: it has neither."""
    known: dict[int, Names | None] = {}
    for own, _ in shape.kinds():
        attention, ffn = ("parent" if absent(part, own) else "noop" for part in SUB_BLOCKS)
        known[id(own)] = None if attention == ffn == "parent" else (attention, ffn)
    return [known[id(own)] for own in shape.each]


def can_drop(layers: Sequence[LayerChoice], shape: Shape) -> list[bool]:
    """Return True for each layer that a space can drop."""
    known = {id(choice): choice.by_name() for choice in {id(choice): choice for choice in layers}.values()}
    pairs = zip(dropped_names(shape), (known[id(choice)] for choice in layers), strict=True)
    return [own is not None and own[0] in attention and own[1] in ffn for own, (attention, ffn) in pairs]


def runs_to_drop(layers: Sequence[LayerChoice], shape: Shape, lengths: tuple[int, int] | None) -> list[Run]:
    """Every run of some lengths (from, to) that a space can drop, first layers ascending; none without lengths."""
    if lengths is None:
        return []
    droppable = can_drop(layers, shape)
    return [
        (first, length)
        for first in range(len(layers))
        for length in range(lengths[0], lengths[1] + 1)
        if first + length <= len(layers) and all(droppable[first : first + length])
    ]


def counted_runs(dropped: Sequence[bool], measured: Collection[Run]) -> list[Run]:
    """The measured runs that a child's score has in place of their layers. `dropped[layer]`: no sub-block is left.

    Dropped layers in a row count as one run. Of more than the longest that was measured, so many count as one, then the count
    begins anew. Of a run that was not measured, so do as many of its first layers as were; the others are scored one by one.
    """
    longest = max((length for _, length in measured), default=1)
    found, first = [], 0
    while first < len(dropped):
        end = first + 1
        while dropped[first] and end < len(dropped) and dropped[end] and end - first < longest:
            end += 1
        known = [length for length in range(2, end - first + 1) if (first, length) in measured]
        found += [(first, length) for length in known[-1:]]
        first = end
    return found
