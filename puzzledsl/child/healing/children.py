"""Heal and measure many children in memory, sharing the work for sub-blocks that they have in common.

The parent's stream is computed once, at every point. A child is healed from the first point where it differs from the parent to
the last layer. The healed stream after every KEPT_EVERY-th sub-block is kept while there is room, and a child with the same
first sub-blocks continues from there. Children are sorted so that neighbours share many of their first sub-blocks. There are
calibration groups to fit to, held-out groups that judge the steps, and groups to measure on.

Shapes: N blocks, S context, B sequences, H hidden.
"""

from __future__ import annotations

import tempfile
from collections import OrderedDict
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor
from transformers import PreTrainedModel

from puzzledsl.alternatives.alternative import SubBlock
from puzzledsl.child.assemble import Pieces
from puzzledsl.child.healing.fit import HELD_BYTES, FitBatch, ParentStream, Streams, fit_last
from puzzledsl.child.healing.layer import ChildSubBlock, Link, chain, child_digest, first_changed, points
from puzzledsl.ir.tables import LayerDefinition
from puzzledsl.models.families.access import absent
from puzzledsl.models.layerwise import LayerRunner
from puzzledsl.plan.memory.stage_plan import tiles

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
        per_group = max(1, tiles(model.device.type).group_tokens // calibration_NS.shape[1])
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


POINT_BYTES = 1 << 25
"""The parent's stream at one point is kept in memory up to this size, in a file above it."""
KEPT_BYTES = 1 << 31
"""Bytes of healed streams that are kept for children with the same first sub-blocks."""
KEPT_EVERY = 4
"""A child repeats at most KEPT_EVERY - 1 sub-blocks that another one shares (of 60 in a model of 30 layers); a kept child takes
1 / KEPT_EVERY of the memory."""


class Measure(Protocol):
    """Comparison of a child with the parent on groups of token ids [B, S]; `scoring.measures` has implementations."""

    groups: Sequence[Tensor]

    def set_parent(self, normed: Sequence[Tensor]) -> None:
        """Set the parent's final hidden states after the last norm, one [B, S, H] for each group."""

    def figures(self, normed: Sequence[Tensor]) -> dict[str, float]:
        """Return a child's metrics by name, from its own final hidden states after the last norm."""


class HealedChildren:
    """Heals children of one parent on calibration tokens and measures them on the tokens of a `Measure`.

        healed = HealedChildren(model, library.load, calibration_NS, Divergence(runner, tokens_NS, samples))
        for digest, figures in healed.measured([definition.layers, …]):
            store(digest, figures["kl_divergence"])

    An eighth of the calibration blocks is not fitted to and limits the steps. Metrics do not depend on the children measured
    before, so the iteration can be stopped after any child.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        pieces: Pieces,
        calibration_NS: Tensor,
        measure: Measure,
        *,
        fitted: Collection[SubBlock] = ("attention", "ffn"),
        kept_bytes: int = KEPT_BYTES,
        held_bytes: int = POINT_BYTES,
        folder: Path | None = None,
    ) -> None:
        """Run the parent once. `fitted`: kinds of sub-blocks whose last maps are refitted; attention alone takes half the time.

        A stream of the parent above `held_bytes` is kept in a file in `folder` (default: the system's temporary directory).
        Healed streams of children take at most `kept_bytes`, but one is always kept.
        """
        self._runner, self._measure = LayerRunner(model), measure
        self._without = absent(model)
        self._points = points(len(self._runner), self._without)
        self._kept: OrderedDict[tuple[Link, ...], list[Tensor]] = OrderedDict()
        self._sub_blocks, self._kept_bytes = fitted, kept_bytes
        folder = folder or Path(tempfile.gettempdir())
        with torch.no_grad():
            self._groups = HealingGroups(
                model, pieces, calibration_NS, measure.groups, folder, held_bytes=held_bytes
            )
            self._parent = self._groups.parent
            self._measure.set_parent(self._normed(list(self._parent.at(2 * len(self._runner)))))

    def measured(
        self, children: Sequence[Sequence[LayerDefinition]]
    ) -> Iterator[tuple[str, Mapping[str, float]]]:
        """Yield (`child_digest`, metrics after healing) of each child as it is measured, not in the order of `children`.

        Raises DiagnosticError if a piece is missing, is damaged or does not fit.
        """
        chains = [(chain(layers, self._without), child_digest(layers)) for layers in children]
        for links, digest in sorted(chains, key=lambda item: [repr(link) for link in item[0]]):
            yield digest, self._figures(links)

    @torch.no_grad()
    def _figures(self, links: tuple[Link, ...]) -> Mapping[str, float]:
        reached, stream = self._start(links)
        for index in range(reached, len(links)):
            link = links[index]
            fit = link.sub_block in self._sub_blocks
            between = {point: self._parent.at(point) for point in (link.point, link.goal)}
            stream = self._groups.past(link, stream, between, fit=fit)
            if (index + 1) % KEPT_EVERY == 0 or index + 1 == len(links):
                self._keep(links[: index + 1], stream)
        return self._measure.figures(self._normed(stream))

    def _start(self, links: tuple[Link, ...]) -> tuple[int, list[Tensor]]:
        """Return the number of first links whose healed stream is known, and this stream."""
        changed = first_changed(links, self._points)
        for reached in range(len(links), changed, -1):
            if links[:reached] in self._kept:
                self._kept.move_to_end(links[:reached])
                return reached, self._kept[links[:reached]]
        return changed, list(self._parent.at(self._points[changed]))

    def _keep(self, links: tuple[Link, ...], stream: list[Tensor]) -> None:
        """Cache a stream; evict the least recently used ones while the cache exceeds its limit."""
        self._kept[links] = stream
        size = sum(hidden.nbytes for hidden in stream)
        while len(self._kept) > 1 and len(self._kept) * size > self._kept_bytes:
            self._kept.popitem(last=False)

    def _normed(self, stream: Sequence[Tensor]) -> list[Tensor]:
        return [self._runner.final_norm(hidden) for hidden in self._groups.measured(stream)]
