"""Pipeline stage of BLD: consecutive layers of the parent and their pieces, trained as batches pass through (Puzzle, section 3).

One forward pass of the parent feeds every piece, and no activations are kept. Stages exchange only hidden states, so they can
run in different processes. Each layer has the trainer of `pieces.train.sweep`, with the same batches and steps, so its
pieces are the same, bit for bit.

Shapes: B sequences, S positions, H hidden.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from puzzledsl.base.diagnostics import Diagnostic
from puzzledsl.ir.tables import Piece
from puzzledsl.models.families.access import layers, shape_of
from puzzledsl.models.families.paged import paged_parent
from puzzledsl.models.layerwise import LayerRunner
from puzzledsl.models.placement import placement, this_device
from puzzledsl.pieces.initialise.statistics import walk_from
from puzzledsl.pieces.train.finished import write_finished
from puzzledsl.pieces.train.layer_trainer import LayerTrainer
from puzzledsl.pieces.train.micro_batches import CHECK, EVALUATE, STEP, MicroBatches, Tell, Visit
from puzzledsl.pieces.train.order import Order
from puzzledsl.pieces.train.saved_state import SavedState
from puzzledsl.plan.memory.bld import WorkerPlan
from puzzledsl.plan.memory.stage_plan import Device

EVERYTHING = 1 << 62
"""Limit of a paged parent that keeps every layer it has read. Layers of other stages never run, so they are never read."""


@dataclass(frozen=True)
class Finished:
    """Result of a stage: the pieces whose files are written, diagnostics of those with non-finite losses, and sentences."""

    pieces: Sequence[tuple[Piece, str]]  # with the weights that each keeps: "trained" | "initial"
    problems: Sequence[Diagnostic]
    news: Sequence[str] = ()


class Stage:
    """Layers `first` to `end - 1` of the parent and their pieces. Its methods take and return tensors on the CPU."""

    def __init__(
        self,
        order: Order,
        first: int,
        end: int,
        model: PreTrainedModel | None = None,
        threads: int | None = None,
        tell: Tell | None = None,
    ) -> None:
        """Set up the stage. Without a `model`, it reads only its own layers of the checkpoint, when they first run.

        `threads`: number of torch threads of this process; None leaves it unchanged. `tell` gets sentences for the user;
        without it, `written` and `finish` return them.
        """
        if threads is not None:
            torch.set_num_threads(threads)
        self._loaded = range(0) if model is None else range(len(layers(model)))
        if model is None:
            device, dtype = placement(order.parent_dir)
            model, _ = paged_parent(order.parent_dir, room_bytes=EVERYTHING, dtype=dtype, device=device)
        self._order, self._layers, self._model = order, range(first, end), model
        self._runner, self._saved = LayerRunner(model), SavedState(order)
        self._trainers: dict[int, LayerTrainer] = {}
        self._news: list[str] = []
        own = [job for job in order.jobs if job.layer in self._layers]
        plan = WorkerPlan(shape_of(model.config), own, first, end, self.device(), whole=bool(self._loaded))
        blocks = plan.micro_blocks if own else order.budget.batch
        self._micro = MicroBatches(self._runner, blocks, tell or self._news.append)
        self._writer, self._copies = ThreadPoolExecutor(1), self._runner.device.type == "cuda"
        self._writing: Future[None] | None = None

    def arithmetic(self) -> str:
        """Return device type and dtype, on which the bits of a piece depend besides its inputs."""
        return f"{self._runner.device.type} {self._runner.dtype}"

    def device(self) -> Device:
        """Return the stage's device, as plans take it. On a CPU the other stages on this machine need as much."""
        held = sum(weights_of(layers(self._model)[layer_idx]) for layer_idx in self._loaded)
        return this_device(
            self._runner.device, self._runner.dtype, held_bytes=held * self._runner.dtype.itemsize
        ).shared_by(os.cpu_count() or 1)

    def _news_once(self) -> list[str]:
        news, self._news[:] = list(self._news), []
        return news

    def embed(self, tokens_BS: Tensor) -> Tensor:
        """Return the hidden states that enter layer 0, [B, S, H], for token ids [B, S]."""
        return self._runner.embed(tokens_BS.to(self._runner.device)).cpu()

    def forward(self, hidden_BSH: Tensor) -> Tensor:
        """Run the parent's layers of this stage, without the pieces: [B, S, H] -> [B, S, H]."""
        return self._micro.forward(self._layers, hidden_BSH).cpu()

    def initialise(self, *entering: Tensor) -> None:
        """Initialise every piece from the calibration batches [B, S, H] that enter the stage's first layer."""
        self._trainers = {}
        wanted = self._layers_with_jobs()
        for layer_idx, statistics in walk_from(self._model, self._layers[0], entering, wanted):
            self._trainers[layer_idx] = LayerTrainer.build(self._order, self._model, layer_idx, statistics)

    def evaluate(self, hidden_BSH: Tensor) -> Tensor:
        """Add a held-out batch to every piece's loss. Returns the output of the stage's last layer, [B, S, H]."""
        return self._through(hidden_BSH, EVALUATE)

    def begin(self) -> None:
        """Take the losses of the batches evaluated so far as the initial losses, and save the initial weights and losses."""
        for layer_idx, trainer in self._trainers.items():
            trainer.begin()
            self._saved.save_initial(layer_idx, trainer)

    def step(self, hidden_BSH: Tensor) -> Tensor:
        """Train every piece that needs it for one step. Returns the output of the stage's last layer, [B, S, H]."""
        return self._through(hidden_BSH, STEP)

    def check(self, hidden_BSH: Tensor) -> Tensor:
        """Check early stopping of every piece in training on a held-out batch. Returns the stage's output, [B, S, H]."""
        return self._through(hidden_BSH, CHECK)

    def save(self, step: int) -> None:
        """Save the state of training after `step` steps; `written` says when it is on the disk.

        A GPU's state is copied to the host, and written while training goes on. A CPU has no second memory to copy it to.
        """
        self.flush()
        taken = {
            idx: self._saved.taken(trainer, copy=self._copies) for idx, trainer in self._trainers.items()
        }

        def write() -> None:
            for layer_idx, tensors in taken.items():
                self._saved.save(step, layer_idx, tensors)

        self._writing = self._writer.submit(write)
        if not self._copies:
            self.flush()

    def written(self) -> list[str] | None:
        """Return None until what `save` took last is on the disk, then the sentences for the user since the last time.

        Raises the exception of the writing.
        """
        if self._writing is not None and not self._writing.done():
            return None
        self.flush()
        return self._news_once()

    def flush(self) -> None:
        """Wait until what `save` took last is on the disk."""
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def restore(self, step: int) -> None:
        """Load the state of these layers that any stages saved after `step` steps.

        Raises DiagnosticError (UnfinishedWorkDamaged) for missing or damaged files.
        """
        wanted = self._layers_with_jobs()
        self._trainers = {idx: self._saved.load(step, idx, self._model) for idx in wanted}

    def finish(self) -> Finished:
        """Write every piece with the better of its initial and trained weights, by the losses before `begin` and since."""
        outcomes = (outcome for trainer in self._trainers.values() for outcome in trainer.outcomes())
        pieces: list[tuple[Piece, str]] = []
        problems = write_finished(
            self._order, outcomes, self._runner.dtype, lambda *piece: pieces.append(piece)
        )
        return Finished(pieces, problems, self._news_once())

    def _layers_with_jobs(self) -> list[int]:
        return [layer_idx for layer_idx in self._layers if self._order.jobs_of(layer_idx)]

    def _through(self, hidden_BSH: Tensor, visit: Visit) -> Tensor:
        for is_trained, run in groupby(self._layers, key=self._trainers.__contains__):
            if not is_trained:
                hidden_BSH = self._micro.forward([*run], hidden_BSH)
                continue
            for layer_idx in run:
                hidden_BSH = self._micro.through(layer_idx, self._trainers[layer_idx], hidden_BSH, visit)
        return hidden_BSH.cpu()


def weights_of(module: nn.Module) -> int:
    """Return the number of parameters of a module."""
    return sum(weight.numel() for weight in module.parameters())
