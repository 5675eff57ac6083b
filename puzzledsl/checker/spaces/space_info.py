"""The checker's knowledge of a space, for reading patterns, overrides and the expressions of its searches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from puzzledsl.alternatives.alternative import Alternative, SubBlock
from puzzledsl.alternatives.parent import PARENTS, ParentAttention, ParentFfn
from puzzledsl.alternatives.registry import AttentionAlternative, FfnAlternative
from puzzledsl.ir.nodes import Rounding, Shape


@dataclass(slots=True, eq=False)
class SpaceInfo:
    """A space under construction. `base_*` is the choice before overrides; `asked` maps widths to their unrounded values.

    `parent` is the name that its declaration has, `parent_id` the one that it has in the program.

    `incomplete`: a part of a choice could not be read, so diagnostics about its size and gaps are suppressed.
    `guessed`: the parent is unknown, and the shape is a placeholder that almost anything fits.
    """

    name: str
    parent: str
    parent_id: str
    shape: Shape
    base_attention: list[tuple[AttentionAlternative, ...]] = field(default_factory=list)
    base_ffn: list[tuple[FfnAlternative, ...]] = field(default_factory=list)
    attention: list[tuple[AttentionAlternative, ...]] = field(default_factory=list)
    ffn: list[tuple[FfnAlternative, ...]] = field(default_factory=list)
    asked: dict[tuple[int, int], set[Fraction]] = field(default_factory=dict)
    roundings: list[Rounding] = field(default_factory=list)
    incomplete: bool = False
    guessed: bool = False

    @property
    def all_layers(self) -> tuple[int, ...]:
        """The indices of all layers: 0 to layers - 1."""
        return tuple(range(self.shape.layers))

    def choices(
        self, sub_block: SubBlock
    ) -> list[tuple[AttentionAlternative, ...]] | list[tuple[FfnAlternative, ...]]:
        """Return the alternatives of every layer for one sub-block."""
        return self.attention if sub_block == "attention" else self.ffn

    def choose(self, sub_block: SubBlock, found: Sequence[Sequence[Alternative]]) -> None:
        """Set the choice of every layer; one without an alternative keeps its own sub-block."""
        alike: dict[int, tuple[Any, ...]] = {}
        for choice in found:
            alike.setdefault(id(choice), tuple(choice) or (PARENTS[sub_block],))
        rows = [alike[id(choice)] for choice in found]
        if sub_block == "attention":
            self.base_attention, self.attention = rows, [*rows]
        else:
            self.base_ffn, self.ffn = rows, [*rows]

    def alternatives(self, sub_block: SubBlock, layers: tuple[int, ...]) -> list[Alternative]:
        """Return the distinct alternatives that `layers` can choose, in the order written."""
        found: dict[Alternative, None] = {}
        for layer in layers:
            found.update(dict.fromkeys(self.choices(sub_block)[layer]))
        return list(found)


_HEADS = 720_720  # divided by every number up to 16
_ANY_SHAPE = Shape(
    family="llama",
    layers=128,
    hidden=8192,
    heads=_HEADS,
    kv_heads=_HEADS,
    head_dim=128,
    intermediate=2**40,
    vocab=2**17,
    tied=False,
)


def guessed(name: str) -> SpaceInfo:
    """Return a placeholder for a space that could not be read, so that its statements and searches can still be checked."""
    info = all_parent(name, name, name, _ANY_SHAPE)
    info.incomplete = info.guessed = True
    return info


def all_parent(name: str, parent: str, parent_id: str, shape: Shape) -> SpaceInfo:
    """Return a space in which every layer stays as it is."""
    attention: list[tuple[AttentionAlternative, ...]] = [(ParentAttention(),)] * shape.layers
    ffn: list[tuple[FfnAlternative, ...]] = [(ParentFfn(),)] * shape.layers
    return SpaceInfo(name, parent, parent_id, shape, attention, ffn, [*attention], [*ffn])
