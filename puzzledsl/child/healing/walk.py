"""Heal a child in one walk up its layers, with one of its sub-blocks in memory at a time.

The parent's stream runs ahead to the goal of the current sub-block. The child's copy of a sub-block exists only while the
streams pass it; its healed weights are written to `work`, one file per layer. An interrupted walk starts again at the bottom
and reads finished layers from there, so it repeats only forward passes.

Shapes: N blocks, S context, B sequences, H hidden, P positions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import torch
from safetensors.torch import save as to_safetensors
from torch import Tensor
from transformers import PreTrainedModel

from puzzledsl.base.files import is_sealed_beside, seal_beside, write_bytes
from puzzledsl.base.progress import Progress
from puzzledsl.child.assemble import Pieces
from puzzledsl.child.healing.fit import HELD_BYTES, FitBatch, ParentStream, fit_last
from puzzledsl.child.healing.layer import ChildSubBlock, Link, chain, first_changed, points
from puzzledsl.ir.tables import LayerDefinition
from puzzledsl.models.divergence import summed_kl
from puzzledsl.models.families.access import absent, family_of, layers, part
from puzzledsl.models.families.tensors import LazyTensor, open_file
from puzzledsl.models.layerwise import LayerRunner
from puzzledsl.plan.memory.stage_plan import tiles


class StreamPair:
    """Token groups with the parent's stream at the points that a sub-block needs and the child's stream at one point."""

    def __init__(
        self, runner: LayerRunner, groups: Sequence[Tensor], folder: Path, *, held_bytes: int = HELD_BYTES
    ) -> None:
        """Embed token ids [B, S] of each group. Above `held_bytes`, streams lie in files in `folder`."""
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


@dataclass(frozen=True, slots=True)
class Healed:
    """Healed weights by transformers' names, and KL(parent || child) in nats on held-out tokens without and with them."""

    weights: dict[str, LazyTensor]
    layers: tuple[int, ...]
    """Layers with healed weights (`healed_layer`)."""
    kl_before: float
    kl_after: float


@torch.no_grad()
def heal(
    model: PreTrainedModel,
    layers: Sequence[LayerDefinition],
    pieces: Pieces,
    calibration_NS: Tensor,
    held_out_NS: Tensor,
    work: Path,
    progress: Progress,
    *,
    held_bytes: int = HELD_BYTES,
) -> Healed:
    """Heal the child that `layers` and `pieces` define. `model`, the parent, is not changed.

    Refits the last map of every sub-block from the first changed one on (`chain.first_changed`).
    Hidden states above `held_bytes` are kept in files in `work`.
    Raises DiagnosticError if a piece is damaged or does not fit.
    """
    without = absent(model)
    links, of_parent = chain(layers, without), points(len(layers), without)
    runner = LayerRunner(model)
    calibration, held_out = (
        StreamPair(runner, _groups(tokens_NS, runner.device), work, held_bytes=held_bytes)
        for tokens_NS in (calibration_NS, held_out_NS)
    )
    walk = _Walk(model, pieces, work, calibration, held_out)
    progress.start("heal", len(layers))
    changed = first_changed(links, of_parent)
    walk.enter(of_parent[changed])
    progress.ready(len(layers))
    weights: dict[str, LazyTensor] = {}
    done = 0
    for layer_idx, of_layer in groupby(links[changed:], key=lambda link: link.layer_idx):
        progress.advance(layer_idx - done, kept=True, work=layer_idx - done)  # there is nothing to heal
        weights |= walk.heal(layer_idx, list(of_layer))
        progress.advance(work=1)
        done = layer_idx + 1
    progress.advance(len(layers) - done, kept=True, work=len(layers) - done)
    healed = tuple(dict.fromkeys(link.layer_idx for link in links[changed:]))
    return Healed(weights, healed, *walk.divergences(2 * len(layers)))


def healed_layer(work: Path, layer_idx: int) -> Path:
    """Return the path of a layer's healed weights."""
    return work / f"layer-{layer_idx}.safetensors"


def _groups(tokens_NS: Tensor, device: torch.device) -> Sequence[Tensor]:
    """Split the blocks into groups that go through a sub-block together."""
    return torch.split(tokens_NS, max(1, tiles(device.type).forward_tokens // tokens_NS.shape[1]))


class _Walk:
    """The streams of a walk: calibration and held-out tokens, and held-out tokens in the child without healing."""

    def __init__(
        self,
        model: PreTrainedModel,
        pieces: Pieces,
        work: Path,
        calibration: StreamPair,
        held_out: StreamPair,
    ) -> None:
        self._runner, self._model, self._pieces, self._work = LayerRunner(model), model, pieces, work
        self._calibration, self._held_out = calibration, held_out
        self._unhealed: list[Tensor] = []

    def enter(self, point: int) -> None:
        """Start all streams at a point up to which child and parent are equal."""
        self._calibration.enter(point)
        self._held_out.enter(point)
        self._unhealed = list(self._held_out.child)

    def heal(self, layer_idx: int, links: Sequence[Link]) -> dict[str, LazyTensor]:
        """Heal the sub-blocks of a layer, move the streams past it, and return its healed weights."""
        path = healed_layer(self._work, layer_idx)
        stored = open_file(path) if is_sealed_beside(path) else None
        weights: dict[str, Tensor] = {}
        for link in links:
            sub_block = ChildSubBlock(self._model, link, self._pieces)
            self._unhealed = [self._held_out.run(sub_block, hidden) for hidden in self._unhealed]
            if sub_block.last is not None:
                if stored is None:
                    pairs = self._calibration, self._held_out
                    fit_last(sub_block, *(pair.fit_batches(sub_block) for pair in pairs))
                else:
                    names = sub_block.fitted()
                    sub_block.load_fitted({name: stored[self._name(link, name)].read() for name in names})
                fitted = sub_block.fitted()
                weights |= {self._name(link, name): weight.contiguous() for name, weight in fitted.items()}
            self._calibration.move(sub_block)
            self._held_out.move(sub_block)
        if stored is None:
            write_bytes(path, to_safetensors(weights))
            seal_beside(path)
        return open_file(path)

    def _name(self, link: Link, weight: str) -> str:
        """Return the name of a sub-block's weight in the checkpoint."""
        module = part(layers(self._model)[link.layer_idx], link.sub_block).module
        return f"{family_of(self._model).layers}.{link.layer_idx}.{module}.{weight}"

    def divergences(self, end: int) -> tuple[float, float]:
        """Return KL(parent || child) of the child before and after healing, in nats, means over held-out positions."""
        parent = self._held_out.parent.at(end)
        before = sum(self._kl(p, c) for p, c in zip(parent, self._unhealed, strict=True))
        after = sum(self._kl(p, c) for p, c in zip(parent, self._held_out.child, strict=True))
        positions = sum(hidden.shape[:2].numel() for hidden in parent)
        return before / positions, after / positions

    def _kl(self, parent_BSH: Tensor, child_BSH: Tensor) -> float:
        return summed_kl(parent_BSH.flatten(0, 1), child_BSH.flatten(0, 1), self._logits, self._logits)

    def _logits(self, hidden_PH: Tensor) -> Tensor:
        return self._runner.logits(self._runner.final_norm(hidden_PH))
