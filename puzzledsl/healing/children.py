"""Children healed and measured in memory, for searches that ask many: what they have in common is done once.

The parent's stream is computed once, at every point. A child is healed front to back from the first point where it differs from
the parent; the healed stream behind each of its sub-blocks is kept while there is room, and a child that starts alike goes on
from there. Children are taken in an order in which neighbours share the most.

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

from puzzledsl.healing.chain import Link, chain, child_digest, first_changed
from puzzledsl.healing.groups import HealingGroups
from puzzledsl.ir.alternatives import SubBlock
from puzzledsl.ir.tables import LayerDefinition
from puzzledsl.modeling.assemble import Pieces
from puzzledsl.modeling.layerwise import LayerRunner

HELD_BYTES = 1 << 25
"""The parent's stream at one point is kept in a file above this size."""
KEPT_BYTES = 1 << 31
"""Healed streams that are kept for children that start alike."""


class Measure(Protocol):
    """A comparison with the parent (`scoring.measures` has them), on groups of token ids [B, S]."""

    groups: Sequence[Tensor]

    def set_parent(self, normed: Sequence[Tensor]) -> None:
        """Take the parent's normed final hidden states, one [B, S, H] a group."""

    def figures(self, normed: Sequence[Tensor]) -> dict[str, float]:
        """Figures of a child, from its own."""


class HealedChildren:
    """Heals children of one parent on calibration tokens, an eighth of which judges, and measures them on others.

        healed = HealedChildren(model, library.load, calibration_NS, Divergence(runner, tokens_NS, samples))
        for digest, figures in healed.measured([definition.layers, …]):
            store(digest, figures["kl_divergence"])

    Interrupt it between two children: whatever was yielded is final, and figures do not depend on what was asked before.
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
        held_bytes: int = HELD_BYTES,
        folder: Path | None = None,
    ) -> None:
        """Run the parent once. `fitted`: sub-blocks whose last maps are; attention's alone take half the time.

        The parent's stream at a point is in a file in `folder` (a temporary one) above `held_bytes`; healed streams of
        children take at most `kept_bytes`.
        """
        self._runner, self._measure = LayerRunner(model), measure
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
        """Digest (`child_digest`) and figures of each child after healing, as they come; not in the order of `children`.

        Raises DiagnosticError where a piece is missing, damaged or does not fit.
        """
        for layers in sorted(children, key=lambda layers: [repr(link) for link in chain(layers)]):
            yield child_digest(layers), self._figures(chain(layers))

    @torch.no_grad()
    def _figures(self, links: tuple[Link, ...]) -> Mapping[str, float]:
        reached, stream = self._start(links)
        for index in range(reached, len(links)):
            stream = self._past(links[index], stream)
            self._keep(links[: index + 1], stream)
        return self._measure.figures(self._normed(stream))

    def _start(self, links: tuple[Link, ...]) -> tuple[int, list[Tensor]]:
        """The furthest point of a child's stream that is known, and the stream there."""
        changed = first_changed(links)
        for reached in range(len(links), changed, -1):
            if links[:reached] in self._kept:
                self._kept.move_to_end(links[:reached])
                return reached, self._kept[links[:reached]]
        return changed, list(self._parent.at(changed))

    def _past(self, link: Link, stream: Sequence[Tensor]) -> list[Tensor]:
        """The healed child's stream behind one more sub-block."""
        fit = link.sub_block in self._sub_blocks
        return self._groups.past(link, stream, self._groups.points_of(link), fit=fit)

    def _keep(self, links: tuple[Link, ...], stream: list[Tensor]) -> None:
        """Keep a stream, and forget those not used for longest where there is no room for all."""
        self._kept[links] = stream
        size = sum(hidden.nbytes for hidden in stream)
        while len(self._kept) > 1 and len(self._kept) * size > self._kept_bytes:
            self._kept.popitem(last=False)

    def _normed(self, stream: Sequence[Tensor]) -> list[Tensor]:
        return [self._runner.final_norm(hidden) for hidden in self._groups.measured(stream)]
