"""Tokens on their way up the parent and, behind it, up a child.

Shapes: B sequences, S positions, H hidden, P inputs of a last map.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from torch import Tensor

from puzzledsl.healing.chain import Link
from puzzledsl.healing.fit import Seen
from puzzledsl.healing.layer import ChildSubBlock
from puzzledsl.healing.parent import ParentStream
from puzzledsl.healing.streams import HELD_BYTES
from puzzledsl.modeling.layerwise import LayerRunner


class Passage:
    """Groups of sequences, with the parent's stream at the points that a sub-block needs, and the child's at one."""

    def __init__(
        self, runner: LayerRunner, groups: Sequence[Tensor], folder: Path, *, held_bytes: int = HELD_BYTES
    ) -> None:
        """Token ids [B, S]. What takes more than `held_bytes` is kept in files in `folder`, or made again."""
        self.parent = ParentStream(runner, groups, folder, held_bytes=held_bytes)
        self.child = self.parent.new()
        self._positions = sum(group.numel() for group in groups)
        self._held_bytes = held_bytes
        self._read: dict[int, Tensor] = {}

    def enter(self, point: int) -> None:
        """Start the child's stream as the parent's at a point."""
        self.parent.forget_below(point)
        for index, hidden in enumerate(self.parent.at(point)):
            self.child[index] = hidden

    def seen(self, sub_block: ChildSubBlock) -> Iterator[Seen]:
        """Each group at a sub-block."""
        link = sub_block.link
        parent, goal = self.parent.at(link.point), self.parent.at(link.goal)
        for index, child in enumerate(self.child):
            yield Seen(self._reads(index, sub_block, child), child, parent[index], goal[index])

    def move(self, sub_block: ChildSubBlock) -> None:
        """Take the child's stream past a sub-block."""
        for index, child in enumerate(self.child):
            self.child[index] = child + sub_block.adds(self._reads(index, sub_block, child))
        self._read.clear()
        self.parent.forget_below(sub_block.link.goal)

    def run(self, sub_block: ChildSubBlock, hidden_BSH: Tensor) -> Tensor:
        """Another stream of one of the groups, past a sub-block."""
        return sub_block.run(hidden_BSH, self._kwargs(sub_block.link, hidden_BSH))

    def _reads(self, index: int, sub_block: ChildSubBlock, child_BSH: Tensor) -> Tensor:
        """The input of the last map: kept until the stream moves, where there is room for all of them."""
        if index in self._read:
            return self._read[index]
        read = sub_block.reads(child_BSH, self._kwargs(sub_block.link, child_BSH))
        if self._positions * read.shape[-1] * read.itemsize <= self._held_bytes:
            self._read[index] = read
        return read

    def _kwargs(self, link: Link, hidden_BSH: Tensor) -> dict[str, object]:
        self.parent.at(link.goal)
        return self.parent.attention_kwargs(link.layer_idx, hidden_BSH)
