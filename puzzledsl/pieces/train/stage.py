"""Pipeline stage of BLD: consecutive layers of the parent and their pieces, trained as batches pass through (Puzzle, section 3).

One forward pass of the parent feeds every piece, and no activations are kept. Stages exchange only hidden states, so they can
run in different processes. Each layer has the trainer of `pieces.train.sweep`, with the same batches and steps, so its pieces
are the same, bit for bit. States are saved layer by layer, so that stages with other spans of layers can resume from them.

Shapes: B sequences, S positions, H hidden.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from time import monotonic

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save
from torch import Tensor, nn
from transformers import PreTrainedModel

from puzzledsl.base.diagnostics import Diagnostic, DiagnosticError
from puzzledsl.base.files import is_sealed_beside, read_sealed, seal_beside, write_bytes, write_sealed
from puzzledsl.ir.tables import Piece
from puzzledsl.models.errors import UnfinishedWorkDamaged
from puzzledsl.models.families.access import layers, shape_of
from puzzledsl.models.layerwise import LayerRunner
from puzzledsl.models.placement import paged_parent, placement, this_device
from puzzledsl.pieces.errors import LossNotFinite
from puzzledsl.pieces.initialise.statistics import walk_from
from puzzledsl.pieces.store.library import Library
from puzzledsl.pieces.train.layer_trainer import LayerTrainer, Order
from puzzledsl.pieces.train.micro_batches import CHECK, EVALUATE, STEP, MicroBatches, Tell, Visit
from puzzledsl.pieces.train.piece_state import Outcome
from puzzledsl.pieces.train.student import Student
from puzzledsl.plan.memory.bld import WorkerPlan
from puzzledsl.plan.memory.stage_plan import Device


class SavedState:
    """Files of one order: `initial/layer-<n>` (weights and losses before training) and `step-<k>/layer-<n>`."""

    def __init__(self, order: Order) -> None:
        self._order, self._root = order, order.work / "state"

    def last_step(self) -> int | None:
        """Return the last step that all stages saved (0: the initial weights); None without a whole record of all jobs."""
        content = read_sealed(self._root / "saved.json")
        if content is None:
            return None
        saved = json.loads(content)
        return int(saved["step"]) if {job.id for job in self._order.jobs} <= set(saved["jobs"]) else None

    def commit(self, step: int) -> None:
        """Record that every stage has saved this step, so that a run resumes from it; delete the state of earlier steps."""
        saved = {"step": step, "jobs": [job.id for job in self._order.jobs]}
        write_sealed(self._root / "saved.json", json.dumps(saved))
        for old in self._root.glob("step-*"):
            if int(old.name.removeprefix("step-")) < step:  # stages may be writing later ones
                shutil.rmtree(old, ignore_errors=True)

    def save_initial(self, layer_idx: int, trainer: LayerTrainer) -> None:
        """Save the initial weights and losses of a layer's pieces, which drop the weights: the end reads them if needed."""
        losses = {piece.student.job.id: piece.loss_initial for piece in trainer.pieces}
        tensors = {piece.student.job.id: piece.initial for piece in trainer.pieces}
        _write_sealed(self._initial(layer_idx), _flat(tensors), {"losses": json.dumps(losses)})
        self._keep_on_disk(layer_idx, trainer)

    def save(self, step: int, layer_idx: int, trainer: LayerTrainer) -> None:
        """Save the state of a layer's pieces after `step` steps; on return it is on the disk."""
        tensors = {piece.student.job.id: piece.state_dict() for piece in trainer.pieces}
        _write_sealed(self._trained(step, layer_idx), _flat(tensors), {})

    def load(self, step: int, layer_idx: int, model: PreTrainedModel) -> LayerTrainer:
        """Load a layer's pieces as they were after `step` steps. Raises DiagnosticError (UnfinishedWorkDamaged)."""
        initial_path, trained_path = self._initial(layer_idx), self._trained(step, layer_idx)
        self._require_intact([initial_path, trained_path] if step else [initial_path])
        initial = _by_job(load_file(initial_path))
        with safe_open(initial_path, "pt") as file:
            losses = json.loads(file.metadata()["losses"])
        trained = _by_job(load_file(trained_path)) if step else {}
        students = [Student.restore(job, model, initial[job.id]) for job in self._order.jobs_of(layer_idx)]
        trainer = LayerTrainer(students, self._order.budget.steps)
        for piece in trainer.pieces:
            job_id = piece.student.job.id
            piece.loss_initial = losses[job_id]
            if job_id in trained:
                piece.load_state_dict(trained[job_id])
        self._keep_on_disk(layer_idx, trainer)
        return trainer

    def _keep_on_disk(self, layer_idx: int, trainer: LayerTrainer) -> None:
        for piece in trainer.pieces:
            piece.keep_initial_elsewhere(partial(self._read_initial, layer_idx, piece.student))

    def _read_initial(self, layer_idx: int, student: Student) -> dict[str, Tensor]:
        """Read a piece's initial weights. Raises DiagnosticError (UnfinishedWorkDamaged)."""
        self._require_intact([path := self._initial(layer_idx)])
        with safe_open(path, "pt") as file:
            return {name: file.get_tensor(f"{student.job.id}/{name}") for name in student.weight_names()}

    def _require_intact(self, paths: Iterable[Path]) -> None:
        problems = [
            UnfinishedWorkDamaged(None, path=path, folder=self._order.work)
            for path in paths
            if not is_sealed_beside(path)
        ]
        if problems:
            raise DiagnosticError(*problems)

    def _initial(self, layer_idx: int) -> Path:
        return self._root / "initial" / f"layer-{layer_idx}.safetensors"

    def _trained(self, step: int, layer_idx: int) -> Path:
        return self._root / f"step-{step}" / f"layer-{layer_idx}.safetensors"


def _flat(tensors: dict[str, dict[str, Tensor]]) -> dict[str, Tensor]:
    return {f"{job}/{name}": tensor for job, of_job in tensors.items() for name, tensor in of_job.items()}


def _write_sealed(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    stored = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_bytes(path, save(stored, metadata={"format": "pt", **metadata}))
    seal_beside(path)


def _by_job(tensors: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    found: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        job, _, own = name.partition("/")
        found.setdefault(job, {})[own] = tensor
    return found


Enter = Callable[[Piece, str], None]
"""Callback for a piece whose file is written. The string says which weights were kept: "trained" or "initial"."""


def write_finished(
    order: Order, outcomes: Iterable[Outcome], dtype: torch.dtype, enter: Enter
) -> list[LossNotFinite]:
    """Write and `enter` pieces of finite losses, in `dtype` (float32 where quantised); return diagnostics of the others."""
    library, problems = Library(order.library_root), []
    for outcome in outcomes:
        if outcome.finite:
            enter(_write(library, order, outcome, dtype), "trained" if outcome.improved else "initial")
        else:
            problems.append(_diverged(outcome))
    return problems


def _write(library: Library, order: Order, outcome: Outcome, dtype: torch.dtype) -> Piece:
    exact = outcome.student.quantised_names()
    tensors = {n: t if n in exact else t.to(dtype) for n, t in outcome.weights.items()}
    trained = outcome.steps * order.budget.batch * order.budget.context
    losses = outcome.loss_initial, outcome.loss_final
    return library.write(outcome.student.job, tensors, *losses, trained, order.made_from)


def _diverged(outcome: Outcome) -> LossNotFinite:
    job = outcome.student.job
    what = "/".join(f"`{a.name}`" for a in (job.attention, job.ffn) if a is not None)
    loss = outcome.loss_trained if outcome.loss_trained is not None else outcome.loss_initial
    return LossNotFinite(None, name=job.bld, what=what, layer=job.layer, loss=loss, peak=job.lr.peak)


EVERYTHING = 1 << 62
"""Limit of a paged parent that keeps every layer it has read. Layers of other stages never run, so they are never read."""


@dataclass(frozen=True)
class Finished:
    """Result of a stage: the pieces whose files are written, diagnostics of those with non-finite losses, and sentences."""

    pieces: Sequence[tuple[Piece, str]]  # with the weights that each keeps: "trained" | "initial"
    problems: Sequence[Diagnostic]
    news: Sequence[str]


class Stage:
    """Layers `first` to `end - 1` of the parent and their pieces. Its methods take and return tensors on the CPU."""

    def __init__(
        self,
        order: Order,
        first: int,
        end: int,
        model: PreTrainedModel | None = None,
        tell: Tell | None = None,
    ) -> None:
        """Set up the stage. Without a `model`, it reads only its own layers of the checkpoint, when they first run.

        `tell` gets sentences for the user; without it, `save` and `finish` return them.
        """
        self._loaded = range(0) if model is None else range(len(layers(model)))
        if model is None:
            device, dtype = placement(order.parent_dir)
            model, _ = paged_parent(order.parent_dir, room_bytes=EVERYTHING, dtype=dtype, device=device)
        self._order, self._layers, self._model = order, range(first, end), model
        self._runner, self._saved = LayerRunner(model), SavedState(order)
        self._trainers: dict[int, LayerTrainer] = {}
        self._calibration: list[Tensor] = []
        self._news: list[str] = []
        own = [job for job in order.jobs if job.layer in self._layers]
        plan = WorkerPlan(shape_of(model.config), own, first, end, self.device(), whole=bool(self._loaded))
        blocks = plan.micro_blocks if own else order.budget.batch
        self._micro = MicroBatches(self._runner, blocks, tell or self._news.append)

    def arithmetic(self) -> str:
        """Return device type and dtype, on which the bits of a piece depend besides its inputs."""
        return f"{self._runner.device.type} {self._runner.dtype}"

    def device(self) -> Device:
        """Return the stage's device, as plans take it. On a CPU the other stages on this machine need as much."""
        held = sum(weights_of(layers(self._model)[layer_idx]) for layer_idx in self._loaded)
        return this_device(
            self._runner.device, self._runner.dtype, held_bytes=held * self._runner.dtype.itemsize
        ).shared_by(os.cpu_count() or 1)

    def _told(self) -> list[str]:
        told, self._news[:] = list(self._news), []
        return told

    def embed(self, tokens_BS: Tensor) -> Tensor:
        """Return the hidden states that enter layer 0, [B, S, H], for token ids [B, S]."""
        return self._runner.embed(tokens_BS.to(self._runner.device)).cpu()

    def calibrate(self, hidden_BSH: Tensor) -> Tensor | None:
        """Keep a calibration batch that enters the stage. Return what leaves it, [B, S, H]; None above all pieces."""
        self._calibration.append(hidden_BSH)
        if self._layers.stop > self._order.last_layer:
            return None
        return self._micro.forward(self._layers, hidden_BSH).cpu()

    def initialise(self) -> None:
        """Initialise every piece from the calibration batches that were kept."""
        self._trainers, entering = {}, self._calibration
        self._calibration = []
        for layer_idx, statistics in walk_from(
            self._model, self._layers[0], entering, self._layers_with_jobs()
        ):
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

    def save(self, step: int) -> tuple[float, list[str]]:
        """Save the state after `step` steps; on return it is on the disk. Return the seconds that it took, and sentences."""
        began = monotonic()
        for layer_idx, trainer in self._trainers.items():
            self._saved.save(step, layer_idx, trainer)
        return monotonic() - began, self._told()

    def restore(self, step: int) -> None:
        """Load what any stages saved of these layers after `step` steps. Raises DiagnosticError (UnfinishedWorkDamaged)."""
        wanted = self._layers_with_jobs()
        self._trainers = {idx: self._saved.load(step, idx, self._model) for idx in wanted}

    def finish(self) -> Finished:
        """Write every piece with the better of its initial and trained weights, by the losses before `begin` and since."""
        outcomes = (outcome for trainer in self._trainers.values() for outcome in trainer.outcomes())
        pieces: list[tuple[Piece, str]] = []
        problems = write_finished(
            self._order, outcomes, self._runner.dtype, lambda *piece: pieces.append(piece)
        )
        return Finished(pieces, problems, self._told())

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
