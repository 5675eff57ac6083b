"""Differences between the alternatives of two versions of a space. Layers with the same difference share one line."""

from __future__ import annotations

from collections.abc import Iterator

from puzzledsl.alternatives.alternative import ENDS, SubBlock
from puzzledsl.base.phrases import layers_in_words
from puzzledsl.changes.model import Detail
from puzzledsl.ir import nodes

Names = tuple[str, ...]


def space_details(old: nodes.Space, new: nodes.Space) -> Iterator[Detail]:
    """Yield the alternatives that layers gained or lost, attention first; before them those of the model's ends."""
    if len(old.layers) != len(new.layers):
        yield Detail("layers", str(len(old.layers)), str(len(new.layers)))
    for site in ENDS:
        known = [getattr(space.ends or nodes.EndsChoice(), site) for space in (old, new)]
        was, now = (" | ".join(end.name for end in ends) for ends in known)
        if was != now:
            yield Detail(site, was, now)
    sub_blocks: tuple[SubBlock, SubBlock] = ("attention", "ffn")
    for sub_block in sub_blocks:
        gained: dict[Names, list[int]] = {}
        lost: dict[Names, list[int]] = {}
        for layer, (before, after) in enumerate(zip(old.layers, new.layers, strict=False)):
            names_before, names_after = _names(before, sub_block), _names(after, sub_block)
            more = tuple(name for name in names_after if name not in names_before)
            less = tuple(name for name in names_before if name not in names_after)
            if more:
                gained.setdefault(more, []).append(layer)
            if less:
                lost.setdefault(less, []).append(layer)
        for names, layers in lost.items():
            yield Detail(f"{layers_in_words(layers)} {sub_block}", old=" | ".join(names))
        for names, layers in gained.items():
            yield Detail(f"{layers_in_words(layers)} {sub_block}", new=" | ".join(names))


def _names(choice: nodes.LayerChoice, sub_block: SubBlock) -> Names:
    alternatives = choice.attention if sub_block == "attention" else choice.ffn
    return tuple(alternative.name for alternative in alternatives)
