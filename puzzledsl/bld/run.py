"""`pzl bld`: every job's piece, made in one sweep up the parent's layers.

For each layer: calibration statistics -> initial weights of all its pieces -> one forward pass of the parent's layer
feeds them all -> the block library. Hidden states of calibration, training and held-out tokens move up one layer at a
time, so the parent runs once whatever the number of jobs. Training on other hardware, or with another number of
threads, gives other bytes; being killed and started again does not.

The stage before guarantees that jobs are those of one BLD declaration of the program.
"""

from __future__ import annotations

import gc
import shutil
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel

from puzzledsl.bld.activations import Activations
from puzzledsl.bld.errors import NoScratchSpace, NoTrainingText
from puzzledsl.bld.student import Student, enrol
from puzzledsl.bld.training import Outcome, Seen, Trainer, finish, held_out_loss
from puzzledsl.data.blocks import token_blocks
from puzzledsl.data.budget import Budget
from puzzledsl.data.errors import span_of
from puzzledsl.diagnostics import DiagnosticError
from puzzledsl.files import write_text
from puzzledsl.ir import nodes
from puzzledsl.ir.tables import BldJob
from puzzledsl.library.library import Library
from puzzledsl.library.origin import origin
from puzzledsl.modeling.layerwise import LayerRunner
from puzzledsl.modeling.placement import placement
from puzzledsl.parents.access import shape_of
from puzzledsl.parents.load import load_parent, load_tokenizer
from puzzledsl.progress import Progress
from puzzledsl.surgery.statistics import LayerStatistics, walk_layers
from puzzledsl.units import BYTES, format_quantity

CALIBRATION_BATCH_TOKENS = 2048
"""Tokens that go through a layer together while statistics are collected."""


def run_bld(
    program: nodes.Program,
    bld: str,
    jobs: Sequence[BldJob],
    parent_dir: Path,
    base: Path,
    library: Library,
    work: Path,
    progress: Progress,
) -> None:
    """Make the pieces of `jobs` that the library lacks, and leave its index canonical.

    Pieces are trained for `tokens / (context * batch)` steps and keep the better of their initial and trained weights
    on held-out tokens; linear sub-blocks initialised by least squares are already optimal and are not trained. `work`
    holds what an interrupted run needs to go on, and is removed at the end; `base` is where data paths start.
    Raises DiagnosticError: missing or too little text, checkpoints that cannot be read, alternatives that cannot be made.
    """
    if not jobs:
        library.finish()
        return
    declaration = program.blds[bld]
    budget = _one_budget(jobs)
    tokens = _text(program, declaration, budget, parent_dir, base, work)
    made_from = origin(parent_dir, tokens)
    todo = [job for job in jobs if not library.has(job.id, made_from)]
    progress.start(f"bld {bld}", len(jobs))
    progress.advance(len(jobs) - len(todo))
    if todo:
        device, dtype = placement(parent_dir)
        model = load_parent(parent_dir, dtype=dtype, device=device)
        _prepare_work(declaration, work, tokens, made_from, model)
        init = program.spaces[declaration.space].init
        _Sweep(model, budget, tokens, init, made_from, library, work, progress).run(todo)
    library.finish()
    shutil.rmtree(work, ignore_errors=True)


def _one_budget(jobs: Sequence[BldJob]) -> Budget:
    budgets = {Budget.of(job) for job in jobs}
    if len(budgets) != 1:
        raise ValueError("the jobs of one bld have one token budget")
    return budgets.pop()


def _text(
    program: nodes.Program, declaration: nodes.Bld, budget: Budget, parent_dir: Path, base: Path, work: Path
) -> Tensor:
    """Calibration, training and held-out blocks, in this order, [N, S]."""
    if declaration.data is None:
        raise DiagnosticError(NoTrainingText(span_of(declaration.where), name=declaration.name))
    return token_blocks(
        program.data[declaration.data],
        base,
        load_tokenizer(parent_dir),
        context=budget.context,
        tokens=budget.blocks * budget.context,
        seed=budget.seed,
        cache=work.parent.parent.parent / "tokens",
    )


def _prepare_work(
    declaration: nodes.Bld, work: Path, tokens: Tensor, made_from: dict[str, str], model: PreTrainedModel
) -> None:
    """Keep what `work` holds only if it comes from the same parent, text and arithmetic. Raises DiagnosticError when the disk is too full."""
    key = "\n".join((*sorted(made_from.values()), str(model.device.type), str(model.dtype))) + "\n"
    stamp = work / "made_from.txt"
    if not stamp.is_file() or stamp.read_text() != key:
        shutil.rmtree(work, ignore_errors=True)
        write_text(stamp, key)
    width = shape_of(model.config).hidden * model.dtype.itemsize
    needed, free = 2 * tokens.numel() * width, shutil.disk_usage(work).free
    if needed > free:
        sizes = {name: format_quantity(Fraction(size), BYTES) for name, size in (("needed", needed), ("free", free))}
        raise DiagnosticError(NoScratchSpace(span_of(declaration.where), name=declaration.name, work=work, **sizes))


class _Sweep:
    """One pass up the layers."""

    def __init__(
        self,
        model: PreTrainedModel,
        budget: Budget,
        tokens: Tensor,
        init: nodes.Initialisers,
        made_from: dict[str, str],
        library: Library,
        work: Path,
        progress: Progress,
    ) -> None:
        self.model, self.budget, self.init, self.made_from = model, budget, init, made_from
        self.library, self.work, self.progress = library, work, progress
        self.shape = shape_of(model.config)
        self.runner = LayerRunner(model)
        self.calibration, rest = tokens[: budget.calibration], tokens[budget.calibration :]
        # held-out blocks come first, so that initial losses are known before the first step
        self.tokens = torch.cat([rest[budget.training :], rest[: budget.training]])

    def run(self, jobs: Sequence[BldJob]) -> None:
        """Make `jobs`, layer by layer."""
        layers = sorted({job.layer for job in jobs})
        size = max(1, CALIBRATION_BATCH_TOKENS // self.budget.context)
        walk = walk_layers(self.model, self.calibration.split(size), layers=layers)
        activations = Activations(
            self.runner, self.tokens, self.work, batch=self.budget.batch, last_layer=layers[0]
        )
        for layer_idx, statistics in walk:
            activations.move_to(layer_idx)
            self._layer(activations, statistics, [job for job in jobs if job.layer == layer_idx])
            gc.collect()  # statistics are big, and hooks leave cycles

    def _layer(self, activations: Activations, statistics: LayerStatistics, jobs: Sequence[BldJob]) -> None:
        students = [enrol(job, self.model, statistics, self.init, self.shape) for job in jobs]
        statistics.calls.clear()
        school = _School(students, self.budget)

        @torch.no_grad()
        def visit(where: slice, hidden: Tensor) -> Tensor:
            trace = self.runner.trace_layer(activations.layer_idx, hidden)
            with torch.enable_grad():
                school.attend(where.start, hidden, trace)
            return trace.output

        activations.step(visit)
        for outcome in school.outcomes():
            self._keep(outcome)

    def _keep(self, outcome: Outcome) -> None:
        job, dtype = outcome.student.job, self.model.dtype
        tensors = {name: tensor.to(dtype) for name, tensor in outcome.weights.items()}
        trained = self.budget.training * self.budget.context if outcome.loss_trained is not None else 0
        self.library.put(job, tensors, outcome.loss_initial, outcome.loss_final, trained, self.made_from)
        self.progress.advance(layer=job.layer, loss=outcome.loss_final)
        self.progress.log(
            "piece",
            id=job.id,
            layer=job.layer,
            loss_initial=outcome.loss_initial,
            loss_trained=outcome.loss_trained,
            kept="trained" if outcome.improved else "initial",
        )


class _School:
    """The students of one layer. Takes held-out batches first, then training batches."""

    def __init__(self, students: Sequence[Student], budget: Budget) -> None:
        self.students, self.budget = students, budget
        self.held_out: list[Seen] = []
        self.initial_losses: list[float] = []
        self.trainers = {
            id(student): Trainer(student, budget.steps)
            for student in students
            if student.needs_training and budget.steps
        }

    def attend(self, start: int, hidden: Tensor, trace: object) -> None:
        """One batch of blocks, beginning at block `start`."""
        raise NotImplementedError
