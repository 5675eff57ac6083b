"""BLD layer by layer: one pass up the parent that makes all pieces of a layer before it moves on.

It is `pieces.train.stage` with a span of one layer, whose inputs come from disk.

Shapes: N blocks, B sequences, S positions, H hidden.
"""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import PreTrainedModel

from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.base.progress import Progress
from puzzledsl.data.budget import Budget
from puzzledsl.ir.tables import Piece
from puzzledsl.models.layer_trace import TracedBatch
from puzzledsl.models.layerwise import LayerRunner
from puzzledsl.pieces.initialise.statistics import walk_layers
from puzzledsl.pieces.train.activations import Activations
from puzzledsl.pieces.train.finished import Enter, write_finished
from puzzledsl.pieces.train.layer_trainer import LayerTrainer, is_checked_after
from puzzledsl.pieces.train.order import Order


def sweep(model: PreTrainedModel, order: Order, enter: Enter, progress: Progress) -> None:
    """Make the pieces of an order, layer by layer; call `enter` for each whose file is written.

    Resumes from the activations of an interrupted sweep over the same tokens in `order.work`. Calibration tokens are run again
    from layer 0, forward only.

    Raises DiagnosticError: LossNotFinite, and those of `LayerTrainer.build`.
    """

    def entered(piece: Piece, kept: str) -> None:
        enter(piece, kept)
        progress.advance(layer=piece.job.layer, loss=f"{piece.loss_initial:.3g} -> {piece.loss_final:.3g}")

    runner, budget = LayerRunner(model), order.budget
    layers = sorted({job.layer for job in order.jobs})
    rest = order.tokens[budget.calibration :]
    activations = Activations(runner, rest, _batches(budget), order.work, last_layer=layers[0])
    for layer_idx, statistics in walk_layers(model, order.calibration_batches(), layers=layers):
        activations.move_to(layer_idx)
        trainer = LayerTrainer.build(order, model, layer_idx, statistics)
        _train(trainer, runner, activations, budget)
        if problems := write_finished(order, trainer.outcomes(), runner.dtype, entered):
            raise DiagnosticError(*problems)


def _batches(budget: Budget) -> list[slice]:
    """Return slices of held-out batches, then one batch per training step. Held-out blocks come after the training blocks."""
    total = budget.training + budget.held_out
    held_out = range(budget.training, total, budget.batch)
    batches = [slice(start, min(start + budget.batch, total)) for start in held_out]
    return batches + [slice(start, start + budget.batch) for start in range(0, budget.training, budget.batch)]


def _train(trainer: LayerTrainer, runner: LayerRunner, activations: Activations, budget: Budget) -> None:
    """Run the parent's layer once over all tokens, and pass every batch to the layer's trainer."""
    layer_idx, held_out_batches = activations.layer_idx, -(-budget.held_out // budget.batch)
    held_out: list[TracedBatch] = []

    def visit(number: int, hidden_BSH: Tensor) -> Tensor:
        with torch.no_grad():
            trace = runner.trace_layer(layer_idx, hidden_BSH)
        if number < held_out_batches:
            held_out.append((hidden_BSH, trace))
            trainer.evaluate(hidden_BSH, trace)
            if len(held_out) == held_out_batches:
                trainer.begin()
        else:
            trainer.step(hidden_BSH, trace)
            if is_checked_after(number + 1 - held_out_batches, budget.steps):
                trainer.check(*held_out[0])
        return trace.output

    activations.step(visit)
    for batch in held_out if budget.steps else ():
        trainer.evaluate(*batch)
