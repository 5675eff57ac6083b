"""Pipeline stage of BLD: consecutive layers of the parent and their pieces, trained as batches pass through (Puzzle, section 3).

One forward pass of the parent feeds every piece, and no activations are kept. Stages exchange only hidden states, so they can
run in different processes. Pieces are those of `pieces.train.sweep`, with the same batches and steps, bit for bit. States are
saved piece by piece, so that stages with other spans of layers can resume from them.

Shapes: B sequences, S positions, H hidden.
"""

import json
import math
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial, partialmethod
from itertools import chain, groupby
from pathlib import Path
from time import monotonic
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save
from torch import Tensor, nn
from transformers import PreTrainedModel

from puzzledsl.base.diagnostics import Args, Diagnostic, DiagnosticError
from puzzledsl.base.files import is_sealed_beside, read_sealed, seal_beside, write_bytes, write_sealed
from puzzledsl.ir.tables import BldJob, Piece
from puzzledsl.models.errors import LossNotFinite, UnfinishedWorkDamaged
from puzzledsl.models.families.access import layers, shape_of
from puzzledsl.models.layerwise import LayerRunner
from puzzledsl.models.placement import paged_parent, placement, this_device
from puzzledsl.pieces.store.library import Library
from puzzledsl.pieces.train.layer_trainer import Order, initialised, walk_from
from puzzledsl.pieces.train.piece_state import CHECK, EVALUATE, STEP, MicroBatches, PieceState, Visit
from puzzledsl.pieces.train.student import Student
from puzzledsl.plan.memory.bld import WorkerPlan
from puzzledsl.plan.memory.stage_plan import Device


class SavedState:
    """Files of one order: `initial/<job>` (weights and loss before training), `step-<k>/<job>`, and which k all stages saved."""

    def __init__(self, order: Order) -> None:
        self._order, self.root = order, order.work / "state"

    def forget(self) -> None:
        """Delete all that is saved."""
        shutil.rmtree(self.root, ignore_errors=True)

    def last_step(self) -> int | None:
        """Return the last step that all stages saved (0: the initial weights); None if the record lacks a job of the order."""
        saved = self._record()
        return int(saved["step"]) if {job.id for job in self._order.jobs} <= set(saved["jobs"]) else None

    def step(self) -> int:
        """Return the last step in the record, whichever jobs it is for; 0 without an intact record."""
        return int(self._record()["step"])

    def _record(self) -> dict[str, Any]:
        content = read_sealed(self.root / "saved.json")
        return {"step": 0, "jobs": []} if content is None else dict(json.loads(content))

    def commit(self, step: int) -> None:
        """Record that every stage has saved this step, so that a run resumes from it; delete the state of earlier steps."""
        saved = {"step": step, "jobs": [job.id for job in self._order.jobs]}
        write_sealed(self.root / "saved.json", json.dumps(saved))
        for old in self.root.glob("step-*"):
            if int(old.name.removeprefix("step-")) < step:  # stages may be writing later ones
                shutil.rmtree(old, ignore_errors=True)

    def save_initial(self, piece: PieceState) -> None:
        """Save a piece's initial weights and loss. The piece drops these weights from memory; the end reads them if needed."""
        job = piece.student.job
        _write_sealed(self._initial(job), piece.initial(), {"loss": json.dumps(piece.loss_initial)})
        piece.keep_initial_elsewhere(partial(self._read_initial, job))

    def save(self, step: int, piece: PieceState) -> None:
        """Save the state of a piece after `step` steps; on return it is on the disk."""
        _write_sealed(self._trained(step, piece.student.job), piece.state_dict(), {})

    def load(self, step: int, job: BldJob, model: PreTrainedModel) -> PieceState:
        """Load a piece as it was after `step` steps. Raises DiagnosticError (UnfinishedWorkDamaged)."""
        student = Student.restore(job, model, self._read_initial(job))
        piece = PieceState(student, self._order.budget.steps)
        with safe_open(self._initial(job), "pt") as file:
            piece.loss_initial = json.loads(file.metadata()["loss"])
        if step:
            piece.load_state_dict(load_file(self._intact(self._trained(step, job))))
        piece.keep_initial_elsewhere(partial(self._read_initial, job))
        return piece

    def _read_initial(self, job: BldJob) -> dict[str, Tensor]:
        return load_file(self._intact(self._initial(job)))

    def _intact(self, path: Path) -> Path:
        """Return `path` if its file fits its checksum. Raises DiagnosticError (UnfinishedWorkDamaged) if not."""
        if not is_sealed_beside(path):
            raise DiagnosticError(UnfinishedWorkDamaged(None, path=path, folder=self._order.work))
        return path

    def _initial(self, job: BldJob) -> Path:
        return self.root / "initial" / f"{job.id}.safetensors"

    def _trained(self, step: int, job: BldJob) -> Path:
        return self.root / f"step-{step}" / f"{job.id}.safetensors"


def _write_sealed(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    stored = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_bytes(path, save(stored, metadata={"format": "pt", **metadata}))
    seal_beside(path)


Enter = Callable[[Piece, str], None]
"""Callback for a piece whose file is written. The string says which weights were kept: "trained" or "initial"."""


def write_finished(
    order: Order, pieces: Iterable[PieceState], dtype: torch.dtype, enter: Enter
) -> list[Diagnostic]:
    """Write pieces with finite losses, in `dtype` (float32 where quantised), and `enter` them; return diagnostics for others.

    A piece keeps the better of its initial and its trained weights, by normalised MSE on held-out tokens.
    """
    library, problems = Library(order.library_root), []
    for piece in pieces:
        student, initial, trained = piece.student, piece.loss_initial, piece.trained_loss()
        job = student.job
        last = initial if trained is None else trained
        if not (math.isfinite(initial) and math.isfinite(last)):
            what = "/".join(f"`{a.name}`" for a in (job.attention, job.ffn) if a is not None)
            said: Args = {"layer": job.layer, "loss": last, "peak": job.lr.peak}
            problems.append(LossNotFinite(None, name=job.bld, what=what, **said))
            continue
        improved, exact = last < initial, student.quantised_names()
        weights = student.weights() if improved else piece.initial()
        tensors = {name: w if name in exact else w.to(dtype) for name, w in weights.items()}
        tokens = piece.done * order.budget.batch * order.budget.context
        made = library.write(job, tensors, initial, min(initial, last), tokens, order.made_from)
        enter(made, "trained" if improved else "initial")
    return problems


EVERYTHING = 1 << 62
"""Memory limit, in bytes, of a parent that keeps each layer it has read. It reads only layers that run, those of its stage."""


Finished = tuple[Sequence[tuple[Piece, str]], Sequence[Diagnostic]]
"""Result of a stage: the pieces whose files are written, each with the weights that it keeps, and what is wrong with others."""


class Stage:
    """Layers `first` to `end - 1` of the parent and their pieces. Its methods take and return tensors on the CPU."""

    def __init__(self, order: Order, first: int, end: int, model: PreTrainedModel | None = None) -> None:
        """Set up the stage. Without a `model`, it reads only its own layers of the checkpoint, when they first run."""
        self._loaded = range(0) if model is None else range(len(layers(model)))
        if model is None:
            device, dtype = placement(order.parent_dir)
            model, _ = paged_parent(order.parent_dir, room_bytes=EVERYTHING, dtype=dtype, device=device)
        self._order, self._layers, self._model = order, range(first, end), model
        self._runner, self._saved = LayerRunner(model), SavedState(order)
        self._pieces: dict[int, list[PieceState]] = {}
        self._calibration: list[Tensor] = []
        own = [job for job in order.jobs if job.layer in self._layers]
        plan = WorkerPlan(shape_of(model.config), own, first, end, self.device(), whole=bool(self._loaded))
        blocks = plan.micro_blocks if own else order.budget.batch
        self._micro = MicroBatches(self._runner, blocks)

    def arithmetic(self) -> str:
        """Return device type and dtype, on which the bits of a piece depend besides its inputs."""
        return f"{self._runner.device.type} {self._runner.dtype}"

    def device(self) -> Device:
        """Return the stage's device for memory plans. On a CPU, memory is divided by the cores: so many stages may run here."""
        runner, loaded = self._runner, (layers(self._model)[layer_idx] for layer_idx in self._loaded)
        held_bytes = sum(map(weights_of, loaded)) * runner.dtype.itemsize
        return this_device(runner.device, runner.dtype, held_bytes=held_bytes).shared_by(os.cpu_count() or 1)

    def embed(self, tokens_BS: Tensor) -> Tensor:
        """Return the hidden states that enter layer 0, [B, S, H], for token ids [B, S]."""
        return self._runner.embed(tokens_BS.to(self._runner.device)).cpu()

    def calibrate(self, hidden_BSH: Tensor) -> Tensor | None:
        """Keep a calibration batch that enters the stage. Return what leaves it, [B, S, H]; None if no later stage has pieces."""
        self._calibration.append(hidden_BSH)
        if self._layers.stop > self._order.last_layer:
            return None
        return self._micro.forward(self._layers, hidden_BSH).cpu()

    def initialise(self) -> None:
        """Initialise every piece from the calibration batches that were kept."""
        entering, self._calibration = self._calibration, []
        walk = walk_from(self._model, self._layers[0], entering, self._layers_with_jobs())
        self._pieces = {idx: initialised(self._order, self._model, idx, found) for idx, found in walk}

    def begin(self) -> None:
        """Take the losses of the batches evaluated so far as the initial losses, and save the initial weights and losses."""
        for piece in self._all():
            piece.begin()
            self._saved.save_initial(piece)

    def save(self, step: int) -> float:
        """Save the state after `step` steps; on return it is on the disk. Return the seconds that it took."""
        began = monotonic()
        for piece in self._all():
            self._saved.save(step, piece)
        return monotonic() - began

    def restore(self, step: int) -> None:
        """Load this stage's pieces as they were after `step` steps. Raises DiagnosticError (UnfinishedWorkDamaged)."""
        self._pieces = {
            layer_idx: [self._saved.load(step, job, self._model) for job in self._order.jobs_of(layer_idx)]
            for layer_idx in self._layers_with_jobs()
        }

    def finish(self) -> Finished:
        """Write every piece with the better of its initial and trained weights, by held-out loss before and after training."""
        made: list[tuple[Piece, str]] = []
        pieces, dtype = self._all(), self._runner.dtype
        problems = write_finished(self._order, pieces, dtype, lambda *piece: made.append(piece))
        return made, problems

    def _all(self) -> Iterator[PieceState]:
        return chain.from_iterable(self._pieces.values())

    def _layers_with_jobs(self) -> list[int]:
        return [layer_idx for layer_idx in self._layers if self._order.jobs_of(layer_idx)]

    def through(self, hidden_BSH: Tensor, visit: Visit) -> Tensor:
        """Run the stage's layers on a batch [B, S, H] and `visit` their pieces. Return the last layer's output, [B, S, H]."""
        for is_trained, run in groupby(self._layers, key=self._pieces.__contains__):
            if not is_trained:
                hidden_BSH = self._micro.forward([*run], hidden_BSH)
                continue
            for layer_idx in run:
                hidden_BSH = self._micro.through(layer_idx, self._pieces[layer_idx], hidden_BSH, visit)
        return hidden_BSH.cpu()

    evaluate = partialmethod(through, visit=EVALUATE)
    step = partialmethod(through, visit=STEP)
    check = partialmethod(through, visit=CHECK)


def weights_of(module: nn.Module) -> int:
    """Return the number of parameters of a module."""
    return sum(weight.numel() for weight in module.parameters())
