"""A child as a chain of its sub-blocks without the no-ops, with the points of the parent's residual stream that each connects.

The stream of L layers has 2 L + 1 points: layer l's attention reads point 2 l and its FFN point 2 l + 1; the final norm reads
point 2 L. A child's sub-block reads its own point. Its output is read by the child's next sub-block, at a later point if the ones
between are dropped. This point is the sub-block's `goal`: there the child's stream should equal the parent's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from itertools import pairwise

from puzzledsl.alternatives.alternative import SUB_BLOCKS, Alternative, SubBlock
from puzzledsl.child.assemble import choices_of
from puzzledsl.ir.tables import LayerDefinition

Absent = AbstractSet[tuple[int, SubBlock]]
"""Sub-blocks that layers of the parent do not have, as (layer, sub-block)."""


@dataclass(frozen=True, slots=True)
class Link:
    """One sub-block of a child that is not a no-op, with the id of its piece (None for the parent's own)."""

    layer_idx: int
    sub_block: SubBlock
    alternative: Alternative
    piece: str | None
    goal: int
    adjacent: bool
    """True if the child has not dropped the sub-block that comes next in the parent."""

    @property
    def intact(self) -> bool:
        """True for a sub-block of the parent's if the child has not dropped the one after it."""
        return self.alternative.is_parent and self.adjacent

    @property
    def point(self) -> int:
        """Number of the point of the stream that the sub-block reads."""
        return point_of(self.layer_idx, self.sub_block)


def point_of(layer_idx: int, sub_block: SubBlock) -> int:
    """Return the number of the point of the stream that a sub-block reads."""
    return 2 * layer_idx + (sub_block == "ffn")


def points(layers: int, absent: Absent = frozenset()) -> tuple[int, ...]:
    """Return the points of the stream that the parent's sub-blocks read, in order, and the one that the final norm reads."""
    places: list[tuple[int, SubBlock]] = [(index, part) for index in range(layers) for part in SUB_BLOCKS]
    return (*(point_of(*place) for place in places if place not in absent), 2 * layers)


def chain(layers: Sequence[LayerDefinition], absent: Absent = frozenset()) -> tuple[Link, ...]:
    """Return the sub-blocks of a child in order, without its no-ops and without those that the parent does not have."""
    after = dict(pairwise(points(len(layers), absent)))
    links: list[Link] = []
    goal = 2 * len(layers)
    for layer_idx in reversed(range(len(layers))):
        for sub_block, alternative, piece in reversed(choices_of(layers[layer_idx])):
            if alternative.kind != "noop" and (layer_idx, sub_block) not in absent:
                point = point_of(layer_idx, sub_block)
                links.append(Link(layer_idx, sub_block, alternative, piece, goal, goal == after[point]))
                goal = point
    return tuple(reversed(links))


def first_changed(links: Sequence[Link], of_parent: Sequence[int]) -> int:
    """Return the number of intact links at the start of a chain; `of_parent`: the `points` of the parent's sub-blocks.

    It is also the index of the last of these points up to which the child's stream equals the parent's.
    """
    agree = (link.intact and link.point == point for link, point in zip(links, of_parent, strict=False))
    return next((index for index, intact in enumerate(agree) if not intact), len(links))


def child_digest(layers: Sequence[LayerDefinition]) -> str:
    """Return a name for a child: a digest (24 hex digits) of its alternatives and pieces."""
    content = "\n".join(layer.model_dump_json() for layer in layers)
    return hashlib.sha256(content.encode()).hexdigest()[:24]
