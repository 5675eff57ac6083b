"""Groups of tokens that a child is healed on, that judge its steps, and that it is measured on, past its sub-blocks one by one.

Shapes: N blocks, S context, B sequences, H hidden.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel

from puzzledsl.healing.chain import Link
from puzzledsl.healing.fit import Seen, fit_last
from puzzledsl.healing.layer import ChildSubBlock
from puzzledsl.healing.parent import ParentStream
from puzzledsl.healing.streams import HELD_BYTES, Streams
from puzzledsl.modeling.assemble import Pieces
from puzzledsl.modeling.layerwise import LayerRunner

GROUP_TOKENS = 512
"""Tokens that go through a sub-block together."""
JUDGING_PART = 8
"""One in so many of the calibration blocks judges steps and is not fitted to."""
Points = Mapping[int, Streams]
"""The parent's streams at some points (`healing.chain` has their numbers)."""


class HealingGroups:
    """The parent's stream in all groups, and ways past a child's sub-blocks."""

    def __init__(
        self,
        model: PreTrainedModel,
        pieces: Pieces,
        calibration_NS: Tensor,
        measured: Sequence[Tensor],
        folder: Path,
        *,
        held_bytes: int = HELD_BYTES,
    ) -> None:
        """Embed the tokens: two calibration blocks or more, the first eighth of which judges, and `measured` groups [B, S].

        The parent's stream at a point is in a file in `folder` above `held_bytes`.
        """
        self._model, self._pieces = model, pieces
        judging = max(1, len(calibration_NS) // JUDGING_PART)
        per_group = max(1, GROUP_TOKENS // calibration_NS.shape[1])
        calibration, judges = (
            torch.split(part, per_group) for part in (calibration_NS[judging:], calibration_NS[:judging])
        )
        self._calibration = range(len(calibration))
        self._judging = range(len(calibration), len(calibration) + len(judges))
        groups = [*calibration, *judges, *measured]
        self.parent = ParentStream(LayerRunner(model), groups, folder, held_bytes=held_bytes)

    def measured(self, stream: Sequence[Tensor]) -> Sequence[Tensor]:
        """A stream in the groups that are measured alone."""
        return stream[self._judging.stop :]

    def points_of(self, link: Link) -> Points:
        """The points that a sub-block is fitted between."""
        return {point: self.parent.at(point) for point in (link.point, link.goal)}

    def past(self, link: Link, stream: Sequence[Tensor], points: Points, *, fit: bool) -> list[Tensor]:
        """A child's stream behind one more sub-block, whose last map is fitted first where `fit`.

        Threads may do so at once: the parent's modules and streams are read only. Raises DiagnosticError where a piece is
        missing, damaged or does not fit.
        """
        sub_block = ChildSubBlock(self._model, link, self._pieces)
        read = [sub_block.reads(h, self.parent.attention_kwargs(link.layer_idx, h)) for h in stream]
        if fit:
            parent, goal = points[link.point], points[link.goal]

            def seen(groups: range) -> Iterator[Seen]:
                return (Seen(read[i], stream[i], parent[i], goal[i]) for i in groups)

            fit_last(sub_block, seen(self._calibration), seen(self._judging))
        return [h + sub_block.adds(r) for h, r in zip(stream, read, strict=True)]
