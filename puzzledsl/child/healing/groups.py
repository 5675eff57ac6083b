"""Run the token groups of healing through a child, one sub-block at a time.

There are three kinds: calibration groups to fit to, held-out groups that judge the steps, and groups to measure on.

Shapes: N blocks, S context, B sequences, H hidden.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel

from puzzledsl.child.assemble import Pieces
from puzzledsl.child.healing.chain import Link
from puzzledsl.child.healing.fit import FitBatch, fit_last
from puzzledsl.child.healing.layer import ChildSubBlock
from puzzledsl.child.healing.parent import ParentStream
from puzzledsl.child.healing.streams import HELD_BYTES, Streams
from puzzledsl.models.layerwise import LayerRunner
from puzzledsl.plan.memory.tiles import tiles

JUDGING_PART = 8
"""1 / JUDGING_PART of the calibration blocks judge the steps and are not fitted to."""
Points = Mapping[int, Streams]
"""The parent's streams by number of their point (see `child.healing.chain`)."""


class HealingGroups:
    """The parent's stream in all groups, and the steps of a child's stream through its sub-blocks."""

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
        """Embed the tokens of all groups.

        `calibration_NS`: at least two blocks; the first eighth (at least one block) judges. `measured`: groups [B, S] to measure
        on. A stream of the parent above `held_bytes` is kept in a file in `folder`.
        """
        self._model, self._pieces = model, pieces
        judging = max(1, len(calibration_NS) // JUDGING_PART)
        per_group = max(1, tiles(model.device.type).healing_tokens // calibration_NS.shape[1])
        calibration, judges = (
            torch.split(part, per_group) for part in (calibration_NS[judging:], calibration_NS[:judging])
        )
        self._calibration = range(len(calibration))
        self._judging = range(len(calibration), len(calibration) + len(judges))
        groups = [*calibration, *judges, *measured]
        self.parent = ParentStream(LayerRunner(model), groups, folder, held_bytes=held_bytes)

    def measured(self, stream: Sequence[Tensor]) -> Sequence[Tensor]:
        """Return the part of a stream that belongs to the measured groups."""
        return stream[self._judging.stop :]

    def points_of(self, link: Link) -> Points:
        """Return the parent's stream at the two points that a sub-block is fitted between."""
        return {point: self.parent.at(point) for point in (link.point, link.goal)}

    def past(self, link: Link, stream: Sequence[Tensor], points: Points, *, fit: bool) -> list[Tensor]:
        """Return a child's stream after one more sub-block, whose last map is fitted first if `fit`.

        Threads may call this concurrently: the parent's modules and streams are only read. Raises DiagnosticError if the piece
        is missing, is damaged or does not fit.
        """
        sub_block = ChildSubBlock(self._model, link, self._pieces)
        read = [sub_block.last_input(h, self.parent.attention_kwargs(link.layer_idx, h)) for h in stream]
        if fit and sub_block.last is not None:
            parent, goal = points[link.point], points[link.goal]

            def seen(groups: range) -> Iterator[FitBatch]:
                return (FitBatch(read[i], stream[i], parent[i], goal[i]) for i in groups)

            fit_last(sub_block, seen(self._calibration), seen(self._judging))
        return [h + sub_block.added(r) for h, r in zip(stream, read, strict=True)]
