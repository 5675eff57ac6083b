"""One pass up the parent's layers that makes every piece of each.

Shapes: N blocks, B sequences, S positions, H hidden.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel

from puzzledsl.bld.activations import Activations
from puzzledsl.bld.errors import LossNotFinite, ParentNotFinite
from puzzledsl.bld.student import enrol
from puzzledsl.bld.training import Outcome, School
from puzzledsl.data.budget import Budget
from puzzledsl.diagnostics import DiagnosticError
from puzzledsl.ir.alternatives import name_of
from puzzledsl.ir.nodes import Initialisers
from puzzledsl.ir.tables import BldJob
from puzzledsl.modeling.layerwise import LayerRunner
from puzzledsl.parents.access import shape_of
from puzzledsl.surgery.statistics import LayerStatistics, walk_layers

CALIBRATION_BATCH_TOKENS = 2048
"""Tokens that go through a layer together while statistics are collected."""


def sweep(
    model: PreTrainedModel,
    budget: Budget,
    tokens_NS: Tensor,
    init: Initialisers,
    jobs: Sequence[BldJob],
    work: Path,
    *,
    keep: Callable[[Outcome], None],
) -> None:
    """Make the pieces of `jobs` and hand each to `keep`, layer by layer.

    `tokens_NS` are calibration, training and held-out blocks, in this order. What `work` holds of an earlier, interrupted
    sweep over the same tokens is used; calibration tokens are run again up to where it stopped, a forward pass only.
    """
    shape, runner = shape_of(model.config), LayerRunner(model)
    layers = sorted({job.layer for job in jobs})
    calibration = torch.split(
        tokens_NS[: budget.calibration], max(1, CALIBRATION_BATCH_TOKENS // budget.context)
    )
    rest = tokens_NS[budget.calibration :]
    activations = Activations(runner, rest, _batches(budget), work, last_layer=layers[0])
    for layer_idx, statistics in walk_layers(model, calibration, layers=layers):
        _refuse_what_is_not_finite(layer_idx, statistics, runner.dtype)
        activations.move_to(layer_idx)
        here = [job for job in jobs if job.layer == layer_idx]
        students = [enrol(job, model, statistics, init, shape) for job in here]
        statistics.calls.clear()  # the biggest part, and no longer needed
        keep_finite(_train(School(students, budget.steps), runner, activations, layer_idx, budget), keep)


def keep_finite(outcomes: Sequence[Outcome], keep: Callable[[Outcome], None]) -> None:
    """Keep each piece whose training ended in a number. Raises DiagnosticError (LossNotFinite) for the others."""
    lost = [outcome for outcome in outcomes if not outcome.finite]
    for outcome in outcomes:
        if outcome.finite:
            keep(outcome)
    if lost:
        raise DiagnosticError(*(_not_finite(outcome) for outcome in lost))


def _not_finite(outcome: Outcome) -> LossNotFinite:
    job = outcome.student.job
    what = "/".join(f"`{name_of(a)}`" for a in (job.attention, job.ffn) if a is not None)
    loss = outcome.loss_trained if outcome.loss_trained is not None else outcome.loss_initial
    return LossNotFinite(None, name=job.bld, what=what, layer=job.layer, loss=loss, peak=job.lr.peak)


def _refuse_what_is_not_finite(layer_idx: int, statistics: LayerStatistics, dtype: torch.dtype) -> None:
    """Raise DiagnosticError (ParentNotFinite) before anything is fitted to what the layer puts out."""
    for sub_block, gram in (("attention", statistics.attention), ("ffn", statistics.ffn)):
        if not math.isfinite(gram.yy):
            words = str(dtype).removeprefix("torch.")
            raise DiagnosticError(ParentNotFinite(None, sub_block=sub_block, layer=layer_idx, dtype=words))


def _batches(budget: Budget) -> list[slice]:
    """Held-out batches, then one batch a training step. Held-out blocks lie behind the training blocks."""
    total = budget.training + budget.held_out
    held_out = range(budget.training, total, budget.batch)
    batches = [slice(start, min(start + budget.batch, total)) for start in held_out]
    return batches + [slice(start, start + budget.batch) for start in range(0, budget.training, budget.batch)]


def _train(
    school: School, runner: LayerRunner, activations: Activations, layer_idx: int, budget: Budget
) -> Sequence[Outcome]:
    """Run the parent's layer once over all tokens; every batch is shown to every student on its way."""
    examinations = -(-budget.held_out // budget.batch)

    def visit(number: int, hidden_BSH: Tensor) -> Tensor:
        with torch.no_grad():
            trace = runner.trace_layer(layer_idx, hidden_BSH)
        if number < examinations:
            school.examine(hidden_BSH, trace)
        else:
            school.teach(hidden_BSH, trace)
        return trace.output

    activations.step(visit)
    return list(school.outcomes())
