"""BLD layer by layer: one pass up the parent that makes all pieces of a layer before it moves on.

Shapes: N blocks, B sequences, S positions, H hidden.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from puzzledsl.data.budget import Budget
from puzzledsl.models.families.access import shape_of
from puzzledsl.models.layerwise import LayerRunner
from puzzledsl.pieces.initialise.statistics import walk_layers
from puzzledsl.pieces.train.activations import Activations
from puzzledsl.pieces.train.finite import keep_finite, refuse_what_is_not_finite
from puzzledsl.pieces.train.order import Order
from puzzledsl.pieces.train.refine import refine
from puzzledsl.pieces.train.student import enrol
from puzzledsl.pieces.train.training import Outcome, School


def sweep(model: PreTrainedModel, order: Order, keep: Callable[[Outcome], None]) -> None:
    """Make the pieces of an order, layer by layer, and pass each to `keep`.

    Resumes from the activations of an interrupted sweep over the same tokens in `order.work`. Calibration tokens are run again
    from layer 0, forward only.

    Raises DiagnosticError: LossNotFinite, ParentNotFinite, and those of `enrol`.
    """
    shape, runner, budget = shape_of(model.config), LayerRunner(model), order.budget
    layers = sorted({job.layer for job in order.jobs})
    rest = order.tokens[budget.calibration :]
    activations = Activations(runner, rest, _batches(budget), order.work, last_layer=layers[0])
    for layer_idx, statistics in walk_layers(model, order.calibration_batches(), layers=layers):
        refuse_what_is_not_finite(layer_idx, statistics, runner.dtype)
        activations.move_to(layer_idx)
        here = [job for job in order.jobs if job.layer == layer_idx]
        students = [enrol(job, model, statistics, order.init, shape) for job in here]
        refine(students, statistics.calls)
        statistics.calls.clear()  # the largest part of the statistics, no longer needed
        keep_finite(_train(School(students, budget.steps), runner, activations, layer_idx, budget), keep)


def _batches(budget: Budget) -> list[slice]:
    """Return slices of held-out batches, then one batch per training step. Held-out blocks come after the training blocks."""
    total = budget.training + budget.held_out
    held_out = range(budget.training, total, budget.batch)
    batches = [slice(start, min(start + budget.batch, total)) for start in held_out]
    return batches + [slice(start, start + budget.batch) for start in range(0, budget.training, budget.batch)]


def _train(
    school: School, runner: LayerRunner, activations: Activations, layer_idx: int, budget: Budget
) -> Sequence[Outcome]:
    """Run the parent's layer once over all tokens, and pass every batch to all students of the layer."""
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
