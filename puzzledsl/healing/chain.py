"""A child as the chain of its sub-blocks, and the points of the parent's stream between which each of them stands.

The parent's stream has 2 L + 1 points: 2 l is where layer l's attention reads, 2 l + 1 where its FFN reads, 2 L what the final
norm reads. A child's sub-block reads at its own point. What it adds is read by the next sub-block that the child has, which is
further on where sub-blocks are dropped: `goal` is the point of the parent's stream that it should arrive at.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from puzzledsl.ir.alternatives import Alternative, SubBlock
from puzzledsl.ir.tables import LayerDefinition
from puzzledsl.modeling.assemble import choices_of


@dataclass(frozen=True, slots=True)
class Link:
    """One sub-block of a child that is not a no-op."""

    layer_idx: int
    sub_block: SubBlock
    alternative: Alternative
    piece: str | None
    goal: int

    @property
    def point(self) -> int:
        """The point of the stream that the sub-block reads."""
        return point_of(self.layer_idx, self.sub_block)

    @property
    def intact(self) -> bool:
        """True where the parent's own sub-block stands between the points it stands between in the parent."""
        return self.alternative.kind == "parent" and self.goal == self.point + 1


def point_of(layer_idx: int, sub_block: SubBlock) -> int:
    """The point of the stream that a sub-block reads."""
    return 2 * layer_idx + (sub_block == "ffn")


def chain(layers: Sequence[LayerDefinition]) -> tuple[Link, ...]:
    """The sub-blocks of a child in order, without its no-ops."""
    links: list[Link] = []
    goal = 2 * len(layers)
    for layer_idx in reversed(range(len(layers))):
        for sub_block, alternative, piece in reversed(choices_of(layers[layer_idx])):
            if alternative.kind != "noop":
                links.append(Link(layer_idx, sub_block, alternative, piece, goal))
                goal = point_of(layer_idx, sub_block)
    return tuple(reversed(links))


def first_changed(links: Sequence[Link]) -> int:
    """The number of links at the start that read and leave the parent's stream; the point of it up to which it is the child's."""
    agree = (link.intact and link.point == index for index, link in enumerate(links))
    return next((index for index, intact in enumerate(agree) if not intact), len(links))


def child_digest(layers: Sequence[LayerDefinition]) -> str:
    """A name for a child: a digest of its choices and pieces."""
    content = "\n".join(layer.model_dump_json() for layer in layers)
    return hashlib.sha256(content.encode()).hexdigest()[:24]
