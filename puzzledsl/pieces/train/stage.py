"""Pipeline stage of BLD: consecutive layers of the parent and their pieces, trained as batches pass through (Puzzle, section 3).

One forward pass of the parent feeds every piece, and no activations are kept. Stages exchange only hidden states, so they can
run in different processes. Batches and steps are those of `pieces.train.sweep`, and so are the weights, bit for bit. The state of
training is saved layer by layer, so that stages with other spans of layers can resume from it.

Shapes: B sequences, S positions, H hidden.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save
from torch import Tensor, nn
from transformers import PreTrainedModel

from puzzledsl.base.checksums import is_sealed_beside, seal_beside
from puzzledsl.base.diagnostics import Diagnostic, DiagnosticError
from puzzledsl.base.files import write_bytes
from puzzledsl.ir.tables import BldJob, Piece
from puzzledsl.models.errors import UnfinishedWorkDamaged
from puzzledsl.models.families.access import layers, shape_of
from puzzledsl.models.families.paged import paged_parent
from puzzledsl.models.layerwise import LayerRunner, LayerTrace
from puzzledsl.models.placement import SHARE, free_bytes, placement
from puzzledsl.pieces.initialise.statistics import walk_from
from puzzledsl.pieces.store.library import Library
from puzzledsl.pieces.train.finite import diverged, refuse_what_is_not_finite
from puzzledsl.pieces.train.order import Order, write_piece
from puzzledsl.pieces.train.refine import refine
from puzzledsl.pieces.train.student import Student, enrol, revive
from puzzledsl.pieces.train.training import Outcome, Squares, Trainer

EVERYTHING = 1 << 62
"""Limit of a paged parent that keeps every layer it has read. Layers of other stages never run, so they are never read."""


@dataclass
class Pupil:
    """Training state of a piece: its student, its optimiser (None if it needs no training), initial weights and losses."""

    student: Student
    trainer: Trainer | None
    initial: dict[str, Tensor]
    loss_initial: float = float("nan")
    squares: Squares = field(default_factory=Squares)


@dataclass(frozen=True)
class Finished:
    """Result of a stage: the pieces whose files are written, and diagnostics of those with non-finite losses."""

    pieces: Sequence[Piece]
    kept: Sequence[str]  # the weights that each piece keeps: "trained" | "initial"
    problems: Sequence[Diagnostic]


_Visit = Callable[[Pupil, Tensor, LayerTrace], None]


class Stage:
    """Layers `first` to `end - 1` of the parent and their pieces. Its methods take and return tensors on the CPU."""

    def __init__(
        self,
        order: Order,
        first: int,
        end: int,
        model: PreTrainedModel | None = None,
        threads: int | None = None,
    ) -> None:
        """Set up the stage. Without a `model`, it reads only its own layers of the checkpoint, when they first run.

        `threads`: number of torch threads of this process; None leaves it unchanged.
        """
        if threads is not None:
            torch.set_num_threads(threads)
        if model is None:
            device, dtype = placement(order.parent_dir)
            model, _ = paged_parent(order.parent_dir, room_bytes=EVERYTHING, dtype=dtype, device=device)
        self._order, self._layers, self._model = order, range(first, end), model
        self._runner = LayerRunner(model)
        self._pupils: dict[int, list[Pupil]] = {}

    def arithmetic(self) -> str:
        """Return device type and dtype, on which the bits of a piece depend besides its inputs."""
        return f"{self._runner.device.type} {self._runner.dtype}"

    def room_bytes(self) -> int:
        """Return the bytes that the pieces of one layer may take.

        This is the stage's share of free memory less the parent's layers, divided by the number of layers.
        """
        own = sum(weights_of(layer) for layer in self._layers_of_model()) * self._runner.dtype.itemsize
        room = free_bytes(self._runner.device)
        if self._runner.device.type == "cpu":
            room //= os.cpu_count() or 1  # other stages on this machine need as much
        return max(0, int(SHARE * room) - own) // len(self._layers)

    def embed(self, tokens_BS: Tensor) -> Tensor:
        """Return the hidden states that enter layer 0, [B, S, H], for token ids [B, S]."""
        return self._runner.embed(tokens_BS.to(self._runner.device)).cpu()

    @torch.no_grad()
    def forward(self, hidden_BSH: Tensor) -> Tensor:
        """Run the parent's layers of this stage, without the pieces: [B, S, H] -> [B, S, H]."""
        hidden_BSH = hidden_BSH.to(self._runner.device)
        for layer_idx in self._layers:
            hidden_BSH = self._runner.run_layer(layer_idx, hidden_BSH)
        return hidden_BSH.cpu()

    def initialise(self, *entering: Tensor) -> None:
        """Initialise every piece from the calibration batches [B, S, H] that enter the stage's first layer."""
        self._pupils = {}
        wanted = [layer_idx for layer_idx in self._layers if self._jobs(layer_idx)]
        shape, init = shape_of(self._model.config), self._order.init
        for layer_idx, statistics in walk_from(self._model, self._layers[0], entering, wanted):
            refuse_what_is_not_finite(layer_idx, statistics, self._runner.dtype)
            students = [enrol(job, self._model, statistics, init, shape) for job in self._jobs(layer_idx)]
            refine(students, statistics.calls)
            self._pupils[layer_idx] = [
                Pupil(student, self._trainer(student), student.weights()) for student in students
            ]

    def examine(self, hidden_BSH: Tensor) -> Tensor:
        """Add a held-out batch to every piece's loss. Returns the output of the stage's last layer, [B, S, H]."""

        def count(pupil: Pupil, hidden_BSH: Tensor, trace: LayerTrace) -> None:
            pupil.squares.add(pupil.student, hidden_BSH, trace)

        return self._through(hidden_BSH, count)

    def begin(self) -> None:
        """Take the losses of the batches examined so far as the initial losses, and save the initial weights and losses."""
        for layer_idx, pupils in self._pupils.items():
            for pupil in pupils:
                pupil.loss_initial, pupil.squares = pupil.squares.normalized_mse, Squares()
            tensors = {
                f"{p.student.job.id}/{name}": weight for p in pupils for name, weight in p.initial.items()
            }
            losses = {p.student.job.id: p.loss_initial for p in pupils}
            self._save(self._initial(layer_idx), tensors, {"losses": json.dumps(losses)})

    def teach(self, hidden_BSH: Tensor) -> Tensor:
        """Train every piece that needs it for one step. Returns the output of the stage's last layer, [B, S, H]."""

        def step(pupil: Pupil, hidden_BSH: Tensor, trace: LayerTrace) -> None:
            if pupil.trainer is not None:
                pupil.trainer.step(hidden_BSH, trace)

        return self._through(hidden_BSH, step)

    def check(self, hidden_BSH: Tensor) -> Tensor:
        """Check early stopping of every piece in training on a held-out batch. Returns the stage's output, [B, S, H]."""

        def look(pupil: Pupil, hidden_BSH: Tensor, trace: LayerTrace) -> None:
            if pupil.trainer is not None:
                pupil.trainer.examine((hidden_BSH, trace))

        return self._through(hidden_BSH, look)

    def save(self, step: int) -> None:
        """Save the state of training after `step` steps; on return it is on the disk."""
        for layer_idx, pupils in self._pupils.items():
            tensors: dict[str, Tensor] = {}
            for pupil in pupils:
                if pupil.trainer is not None:
                    kept = pupil.student.weights() | pupil.trainer.memory()
                    tensors |= {f"{pupil.student.job.id}/{name}": tensor for name, tensor in kept.items()}
            self._save(self._trained(step, layer_idx), tensors, {})

    def restore(self, step: int) -> None:
        """Load the state of these layers that any stages saved after `step` steps.

        Raises DiagnosticError (UnfinishedWorkDamaged) for missing or damaged files.
        """
        self._pupils = {}
        for layer_idx in self._layers:
            if not self._jobs(layer_idx):
                continue
            self._refuse_damaged(
                self._initial(layer_idx), *([self._trained(step, layer_idx)] if step else [])
            )
            initial = _by_job(load_file(self._initial(layer_idx)))
            with safe_open(self._initial(layer_idx), "pt") as file:
                losses = json.loads(file.metadata()["losses"])
            trained = _by_job(load_file(self._trained(step, layer_idx))) if step else {}
            self._pupils[layer_idx] = [
                self._revived(job, initial[job.id], losses[job.id], trained.get(job.id))
                for job in self._jobs(layer_idx)
            ]

    def finish(self) -> Finished:
        """Write every piece with the better of its initial and trained weights, by the loss on batches examined since `begin`."""
        library = Library(self._order.library_root)
        outcomes = [_outcome(pupil) for pupils in self._pupils.values() for pupil in pupils]
        whole = [outcome for outcome in outcomes if outcome.finite]
        return Finished(
            [write_piece(library, self._order, outcome, self._runner.dtype) for outcome in whole],
            ["trained" if outcome.improved else "initial" for outcome in whole],
            [diverged(outcome) for outcome in outcomes if not outcome.finite],
        )

    # ------------------------------------------------------------

    def _layers_of_model(self) -> list[nn.Module]:
        return [layers(self._model)[layer_idx] for layer_idx in self._layers]

    def _jobs(self, layer_idx: int) -> list[BldJob]:
        return [job for job in self._order.jobs if job.layer == layer_idx]

    def _trainer(self, student: Student) -> Trainer | None:
        steps = self._order.budget.steps
        return Trainer(student, steps) if steps and student.needs_training else None

    def _revived(
        self,
        job: BldJob,
        initial: dict[str, Tensor],
        loss_initial: float,
        trained: dict[str, Tensor] | None,
    ) -> Pupil:
        student = revive(job, self._model, initial)
        trainer = self._trainer(student)
        if trainer is not None and trained is not None:
            student.trained.load_state_dict({name: trained[name] for name in initial})
            trainer.go_on(trained)
        return Pupil(student, trainer, initial, loss_initial)

    def _through(self, hidden_BSH: Tensor, visit: _Visit) -> Tensor:
        hidden_BSH = hidden_BSH.to(self._runner.device)
        for layer_idx in self._layers:
            with torch.no_grad():
                pupils = self._pupils.get(layer_idx, [])
                if not pupils:
                    hidden_BSH = self._runner.run_layer(layer_idx, hidden_BSH)
                    continue
                trace = self._runner.trace_layer(layer_idx, hidden_BSH)
            for pupil in pupils:
                visit(pupil, hidden_BSH, trace)
            hidden_BSH = trace.output
        return hidden_BSH.cpu()

    def _save(self, path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
        stored = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        write_bytes(path, save(stored, metadata={"format": "pt", **metadata}))
        seal_beside(path)

    def _refuse_damaged(self, *paths: Path) -> None:
        problems = [
            UnfinishedWorkDamaged(None, path=path, folder=self._order.work)
            for path in paths
            if not is_sealed_beside(path)
        ]
        if problems:
            raise DiagnosticError(*problems)

    def _initial(self, layer_idx: int) -> Path:
        return state_dir(self._order.work) / "initial" / f"layer-{layer_idx}.safetensors"

    def _trained(self, step: int, layer_idx: int) -> Path:
        return state_dir(self._order.work) / f"step-{step}" / f"layer-{layer_idx}.safetensors"


def state_dir(work: Path) -> Path:
    """Return the directory in which stages save their state."""
    return work / "state"


def weights_of(module: nn.Module) -> int:
    """Return the number of parameters of a module."""
    return sum(weight.numel() for weight in module.parameters())


def _by_job(tensors: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    found: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        job, _, own = name.partition("/")
        found.setdefault(job, {})[own] = tensor
    return found


def _outcome(pupil: Pupil) -> Outcome:
    if pupil.trainer is None:
        return Outcome(pupil.student, pupil.initial, pupil.loss_initial, None)
    loss_trained, steps = pupil.squares.normalized_mse, pupil.trainer.done
    outcome = Outcome(pupil.student, pupil.initial, pupil.loss_initial, loss_trained, steps)
    if outcome.improved:
        outcome.weights = pupil.student.weights()
    return outcome
