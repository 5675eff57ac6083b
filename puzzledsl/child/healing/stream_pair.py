"""Move the streams of the parent and of a child up the layers together, the parent's ahead.

Shapes: B sequences, S positions, H hidden, P inputs of a last map.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from torch import Tensor

from puzzledsl.child.healing.chain import Link
from puzzledsl.child.healing.fit import FitBatch
from puzzledsl.child.healing.layer import ChildSubBlock
from puzzledsl.child.healing.parent import ParentStream
from puzzledsl.child.healing.streams import HELD_BYTES
from puzzledsl.models.layerwise import LayerRunner


class StreamPair:
    """Token groups with the parent's stream at the points that a sub-block needs and the child's stream at one point."""

    def __init__(
        self, runner: LayerRunner, groups: Sequence[Tensor], folder: Path, *, held_bytes: int = HELD_BYTES
    ) -> None:
        """Embed token ids [B, S] of each group.

        Streams above `held_bytes` are kept in files in `folder`; inputs of last maps above it are computed again when needed.
        """
        self.parent = ParentStream(runner, groups, folder, held_bytes=held_bytes)
        self.child = self.parent.new()
        self._positions = sum(group.numel() for group in groups)
        self._held_bytes = held_bytes
        self._read: dict[int, Tensor] = {}

    def enter(self, point: int) -> None:
        """Start the child's stream as a copy of the parent's at a point."""
        self.parent.drop_below(point)
        for index, hidden in enumerate(self.parent.at(point)):
            self.child[index] = hidden

    def fit_batches(self, sub_block: ChildSubBlock) -> Iterator[FitBatch]:
        """Yield each group's regression data for a sub-block."""
        link = sub_block.link
        parent, goal = self.parent.at(link.point), self.parent.at(link.goal)
        for index, child in enumerate(self.child):
            yield FitBatch(self._last_input(index, sub_block, child), child, parent[index], goal[index])

    def move(self, sub_block: ChildSubBlock) -> None:
        """Move the child's stream past a sub-block."""
        for index, child in enumerate(self.child):
            self.child[index] = child + sub_block.added(self._last_input(index, sub_block, child))
        self._read.clear()
        self.parent.drop_below(sub_block.link.goal)

    def run(self, sub_block: ChildSubBlock, hidden_BSH: Tensor) -> Tensor:
        """Run another stream of one of the groups through a sub-block, [B, S, H] -> [B, S, H]."""
        return sub_block.run(hidden_BSH, self._kwargs(sub_block.link, hidden_BSH))

    def _last_input(self, index: int, sub_block: ChildSubBlock, child_BSH: Tensor) -> Tensor:
        """Return the input of the last map, [B, S, P]; cached until `move` if all groups' fit into the limit."""
        if index in self._read:
            return self._read[index]
        read = sub_block.last_input(child_BSH, self._kwargs(sub_block.link, child_BSH))
        if self._positions * read.shape[-1] * read.itemsize <= self._held_bytes:
            self._read[index] = read
        return read

    def _kwargs(self, link: Link, hidden_BSH: Tensor) -> dict[str, object]:
        self.parent.at(link.goal)
        return self.parent.attention_kwargs(link.layer_idx, hidden_BSH)
