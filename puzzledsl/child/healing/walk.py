"""Heal a child in one walk up its layers, with one of its sub-blocks in memory at a time.

The parent's stream runs ahead to the goal of the current sub-block. The child's copy of a sub-block exists only while the
streams pass it; its healed weights are written to `work`, one file per layer. An interrupted walk starts again at the bottom
and reads finished layers from there, so it repeats only forward passes.

Shapes: N blocks, S context, B sequences, H hidden, P positions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
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
from puzzledsl.models.families.access import absent, family_of, layers, part, shape_of
from puzzledsl.models.families.tensors import LazyTensor, open_file
from puzzledsl.models.layerwise import LayerRunner
from puzzledsl.plan.flop import HealingWork
from puzzledsl.plan.memory.stage_plan import tiles


@dataclass(frozen=True)
class Healed:
    """Layers of a child with healed weights in files, and KL(parent || child) on held-out tokens before and after, in nats."""

    layers: tuple[int, ...]
    kl_before: float
    kl_after: float
    calibration_tokens: int
    held_out_tokens: int

    @property
    def improved(self) -> bool:
        """True if healing lowers the KL divergence."""
        return self.kl_after < self.kl_before

    def weights(self, work: Path) -> dict[str, LazyTensor]:
        """Return the healed weights in a folder, by transformers' names."""
        files = (open_file(healed_layer(work, layer_idx)) for layer_idx in self.layers)
        return {name: weight for file in files for name, weight in file.items()}


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
    walk = _Walk(model, pieces, calibration_NS, held_out_NS, work, held_bytes)
    progress.start("heal", len(layers) + 1)
    changed = first_changed(links, of_parent)
    entered = of_parent[changed]
    walk.run_below(entered // 2)
    todo = {idx: list(group) for idx, group in groupby(links[changed:], key=lambda link: link.layer_idx)}
    work_of = HealingWork(shape_of(model.config), calibration_NS.numel(), held_out_NS.numel())
    efforts = _efforts(work_of, todo, entered // 2, work)
    progress.ready(sum(efforts.values()) + work_of.compared)
    walk.enter(entered)
    done = 0
    for layer_idx, of_layer in todo.items():
        progress.advance(layer_idx - done, kept=True, work=0.0)  # there is nothing to heal
        walk.heal(layer_idx, of_layer)
        progress.advance(work=efforts[layer_idx])
        done = layer_idx + 1
    progress.advance(len(layers) - done, kept=True, work=0.0)
    divergences = walk.divergences(2 * len(layers))
    progress.advance(work=work_of.compared)
    return Healed(tuple(todo), *divergences, calibration_NS.numel(), held_out_NS.numel())


def _efforts(
    work: HealingWork, todo: Mapping[int, Sequence[Link]], ran: int, folder: Path
) -> dict[int, float]:
    """Return the work of each layer of the child, with that of the parent's layers that run meanwhile.

    `ran` layers of the parent have run. Layers whose healed weights are in `folder` are not fitted again.
    """
    efforts = {}
    for layer_idx, links in todo.items():
        reached = (links[-1].goal + 1) // 2
        efforts[layer_idx] = work.parent(range(ran, reached))
        efforts[layer_idx] += sum(work.run(layer_idx, link.alternative) for link in links)
        if not is_sealed_beside(healed_layer(folder, layer_idx)):
            efforts[layer_idx] += sum(work.fit(layer_idx, link.alternative) for link in links)
        ran = reached
    return efforts


def healed_layer(work: Path, layer_idx: int) -> Path:
    """Return the path of a layer's healed weights."""
    return work / f"layer-{layer_idx}.safetensors"


def _groups(tokens_NS: Tensor, device: torch.device) -> Sequence[Tensor]:
    """Split the blocks into groups that go through a sub-block together."""
    return torch.split(tokens_NS, max(1, tiles(device.type).forward_tokens // tokens_NS.shape[1]))


class _Walk:
    """The streams of a walk in groups: calibration tokens, then held-out ones, which the child without healing reads, too."""

    def __init__(
        self,
        model: PreTrainedModel,
        pieces: Pieces,
        calibration_NS: Tensor,
        held_out_NS: Tensor,
        work: Path,
        held_bytes: int,
    ) -> None:
        self._runner, self._model, self._pieces = LayerRunner(model), model, pieces
        self._work, self._held_bytes = work, held_bytes
        fitted, judging = (_groups(tokens_NS, model.device) for tokens_NS in (calibration_NS, held_out_NS))
        self._fitted = range(len(fitted))
        self._judging = range(len(fitted), len(fitted) + len(judging))
        self._positions = calibration_NS.numel() + held_out_NS.numel()
        self._parent = ParentStream(self._runner, [*fitted, *judging], work, held_bytes=held_bytes)
        self._child = self._parent.new()
        self._unhealed: list[Tensor] = []

    def run_below(self, layer_idx: int) -> None:
        """Run the parent's layers below this one."""
        self._parent.drop_below(2 * layer_idx)

    def enter(self, point: int) -> None:
        """Start all streams at a point up to which child and parent are equal."""
        self._parent.drop_below(point)
        for index, hidden in enumerate(self._parent.at(point)):
            self._child[index] = hidden
        self._unhealed = [self._child[index] for index in self._judging]

    def heal(self, layer_idx: int, links: Sequence[Link]) -> None:
        """Heal the sub-blocks of a layer, write their weights, and move the streams past it."""
        path = healed_layer(self._work, layer_idx)
        stored = open_file(path) if is_sealed_beside(path) else None
        weights: dict[str, Tensor] = {}
        for link in links:
            weights |= self._past(ChildSubBlock(self._model, link, self._pieces), stored)
        if stored is None:
            write_bytes(path, to_safetensors(weights))
            seal_beside(path)

    def _past(self, sub_block: ChildSubBlock, stored: Mapping[str, LazyTensor] | None) -> dict[str, Tensor]:
        """Heal a sub-block, or set what healing it gave, move the streams past it, and return its healed weights."""
        link, known = sub_block.link, dict[int, Tensor]()
        parent, goal = self._parent.at(link.point), self._parent.at(link.goal)

        def read(index: int) -> Tensor:
            """The input of the last map in a group; kept if all groups' fit into the limit."""
            found = known[index] if index in known else self._read(sub_block, self._child[index])
            if self._positions * found.shape[-1] * found.itemsize <= self._held_bytes:
                known[index] = found
            return found

        def seen(groups: range) -> Iterator[FitBatch]:
            return (FitBatch(read(i), self._child[i], parent[i], goal[i]) for i in groups)

        self._unhealed = [h + sub_block.added(self._read(sub_block, h)) for h in self._unhealed]
        fitted: dict[str, Tensor] = {}
        if sub_block.last is not None:
            if stored is None:
                fit_last(sub_block, seen(self._fitted), seen(self._judging))
            else:
                names = sub_block.fitted()
                sub_block.load_fitted({name: stored[self._name(link, name)].read() for name in names})
            fitted = {self._name(link, name): w.contiguous() for name, w in sub_block.fitted().items()}
        for index, hidden in enumerate(self._child):
            self._child[index] = hidden + sub_block.added(read(index))
        self._parent.drop_below(link.goal)
        return fitted

    def _read(self, sub_block: ChildSubBlock, hidden_BSH: Tensor) -> Tensor:
        kwargs = self._parent.attention_kwargs(sub_block.link.layer_idx, hidden_BSH)
        return sub_block.last_input(hidden_BSH, kwargs)

    def _name(self, link: Link, weight: str) -> str:
        """Return the name of a sub-block's weight in the checkpoint."""
        module = part(layers(self._model)[link.layer_idx], link.sub_block).module
        return f"{family_of(self._model).layers}.{link.layer_idx}.{module}.{weight}"

    def divergences(self, end: int) -> tuple[float, float]:
        """Return KL(parent || child) of the child before and after healing, in nats, means over held-out positions."""
        stream = self._parent.at(end)
        parent, child = ([of[index] for index in self._judging] for of in (stream, self._child))
        before = sum(self._kl(p, c) for p, c in zip(parent, self._unhealed, strict=True))
        after = sum(self._kl(p, c) for p, c in zip(parent, child, strict=True))
        positions = sum(hidden.shape[:2].numel() for hidden in parent)
        return before / positions, after / positions

    def _kl(self, parent_BSH: Tensor, child_BSH: Tensor) -> float:
        return summed_kl(parent_BSH.flatten(0, 1), child_BSH.flatten(0, 1), self._logits, self._logits)

    def _logits(self, hidden_PH: Tensor) -> Tensor:
        return self._runner.logits(self._runner.final_norm(hidden_PH))
