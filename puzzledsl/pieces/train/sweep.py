"""BLD layer by layer: one pass up the parent that makes all pieces of a layer before it moves on.

It is `pieces.train.stage` with a span of one layer, whose inputs come from disk.

Shapes: N blocks, B sequences, S positions, H hidden.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor
from transformers import PreTrainedModel

from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.base.progress import Progress
from puzzledsl.data.budget import Budget
from puzzledsl.ir.tables import Piece
from puzzledsl.models.layerwise import LayerRunner
from puzzledsl.pieces.initialise.statistics import walk_layers
from puzzledsl.pieces.train.activations import Activations
from puzzledsl.pieces.train.finished import Enter, write_finished
from puzzledsl.pieces.train.layer_trainer import LayerTrainer, is_checked_after
from puzzledsl.pieces.train.micro_batches import CHECK, EVALUATE, STEP, MicroBatches
from puzzledsl.pieces.train.order import Order


def sweep(
    model: PreTrainedModel, order: Order, enter: Enter, progress: Progress, micro: MicroBatches
) -> None:
    """Make the pieces of an order, layer by layer; call `enter` for each whose file is written.

    Resumes from the activations of an interrupted sweep over the same tokens in `order.work`. Calibration tokens are run again
    from layer 0, forward only.

    Raises DiagnosticError: LossNotFinite, and those of `LayerTrainer.build`. Raises DoesNotFit.
    """

    def entered(piece: Piece, kept: str) -> None:
        enter(piece, kept)
        progress.advance(layer=piece.job.layer, loss=f"{piece.loss_initial:.3g} -> {piece.loss_final:.3g}")

    runner, budget = LayerRunner(model), order.budget
    layers = sorted({job.layer for job in order.jobs})
    visited = torch.cat([*order.held_out_batches(), *order.training_batches()])
    activations = Activations(runner, visited, _batches(budget), order.work, last_layer=layers[0])
    for layer_idx, statistics in walk_layers(model, order.calibration_batches(), layers=layers):
        activations.move_to(layer_idx)
        trainer = LayerTrainer.build(order, model, layer_idx, statistics)
        _train(trainer, activations, budget, micro)
        if problems := write_finished(order, trainer.outcomes(), runner.dtype, entered):
            raise DiagnosticError(*problems)
        del trainer, statistics  # before the next layer's are made: together they are most of the memory


def _batches(budget: Budget) -> list[slice]:
    """Return slices of held-out batches, then one batch per training step, of blocks in this order."""
    total = budget.training + budget.held_out
    held_out = range(0, budget.held_out, budget.batch)
    return [slice(*ends) for ends in pairwise([*held_out, *range(budget.held_out, total + 1, budget.batch)])]


def _train(trainer: LayerTrainer, activations: Activations, budget: Budget, micro: MicroBatches) -> None:
    """Run the parent's layer once over all tokens, and pass every batch to the layer's trainer."""
    layer_idx, held_out_batches = activations.layer_idx, -(-budget.held_out // budget.batch)
    held_out: list[Tensor] = []

    def visit(number: int, hidden_BSH: Tensor) -> Tensor:
        if number >= held_out_batches:
            leaving_BSH = micro.through(layer_idx, trainer, hidden_BSH, STEP)
            if is_checked_after(number + 1 - held_out_batches, budget.steps):
                micro.through(layer_idx, trainer, held_out[0], CHECK)
            return leaving_BSH
        held_out.append(hidden_BSH)
        leaving_BSH = micro.through(layer_idx, trainer, hidden_BSH, EVALUATE)
        if len(held_out) == held_out_batches:
            trainer.begin()
        return leaving_BSH

    activations.step(visit, on_host=micro.blocks < budget.batch)
    for hidden_BSH in held_out if budget.steps else ():
        micro.through(layer_idx, trainer, hidden_BSH, EVALUATE)
