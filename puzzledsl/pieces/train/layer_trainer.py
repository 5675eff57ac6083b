"""An order for pieces, and all pieces of a layer initialised from its calibration statistics (Puzzle, section 3).

The hidden states of all calibration tokens advance one layer at a time, so that a layer's inputs are still available
when its statistics are complete: merged heads and narrow FFNs are fitted to the layer's own inputs and outputs
(`LayerStatistics.calls`). Pieces do not depend on each other, and batches come in the order of the blocks of an `Order`.

Shapes: N blocks, B sequences, S positions, H hidden.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.data.counts import Budget
from puzzledsl.ir.nodes import Initialisers, Shape
from puzzledsl.ir.tables import BldJob
from puzzledsl.models.errors import NoCalibration, ParentNotFinite
from puzzledsl.models.families.access import shape_of, sub_block_of
from puzzledsl.models.families.slots import load_weights_into, weights_of
from puzzledsl.models.kernels.products import repeatable, return_freed_memory
from puzzledsl.models.layerwise import LayerRunner
from puzzledsl.models.least_squares.grams import Gram, LayerStatistics
from puzzledsl.pieces.train.piece_state import PieceState
from puzzledsl.pieces.train.quantise import quantise, refine
from puzzledsl.pieces.train.student import Student, alternatives_of
from puzzledsl.plan.flop import CALIBRATION_BATCH_TOKENS, CALIBRATION_BATCHES


@dataclass(frozen=True)
class Order:
    """An order for the pieces of `jobs`. `tokens` [N, S] are calibration, training and held-out blocks, in this order.

    `work`: directory for the state that an interrupted run resumes from. `made_from`: digests of the parent and the text, which
    are stored with each piece.
    """

    name: str
    parent_dir: Path
    jobs: Sequence[BldJob]
    budget: Budget
    init: Initialisers
    tokens: Tensor
    library_root: Path
    work: Path
    made_from: dict[str, str] = field(default_factory=dict)
    work_behind: float = 0.0
    """FLOP of the work that follows these jobs in the stage (pieces of the head), for estimates of the time left."""

    @property
    def last_layer(self) -> int:
        """The highest layer with a job."""
        return max(job.layer for job in self.jobs)

    def jobs_of(self, layer_idx: int) -> list[BldJob]:
        """Return the jobs of one layer."""
        return [job for job in self.jobs if job.layer == layer_idx]

    def calibration_batches(self) -> tuple[Tensor, ...]:
        """Split the calibration blocks into batches [B, S], which run through a layer together."""
        blocks = self.budget.calibration
        size = max(1, min(CALIBRATION_BATCH_TOKENS // self.budget.context, blocks // CALIBRATION_BATCHES))
        return torch.split(self.tokens[: self.budget.calibration], size)

    def training_batches(self) -> tuple[Tensor, ...]:
        """Split the training blocks into batches [B, S], one for each training step; empty where nothing is trained."""
        start, count = self.budget.calibration, self.budget.training
        return torch.split(self.tokens[start : start + count], self.budget.batch) if count else ()

    def held_out_batches(self) -> tuple[Tensor, ...]:
        """Split the held-out blocks, on which losses are measured, into batches [B, S]."""
        return torch.split(self.tokens[self.budget.calibration + self.budget.training :], self.budget.batch)


CHECKS, MIN_INTERVAL = 16, 16
"""Early stopping is checked on one held-out batch about CHECKS times, at most every MIN_INTERVAL steps. Checks during the
warm-up do not count. Neither does the initial loss: after a least-squares start, training may get back below it only when the
learning rate has fallen."""


def is_checked_after(step: int, steps: int) -> bool:
    """True if early stopping is checked after `step` of `steps`. False for the last step."""
    return step % max(MIN_INTERVAL, math.ceil(steps / CHECKS)) == 0 and step < steps


def walk_layers(
    model: PreTrainedModel, token_blocks: Iterable[Tensor], layers: Sequence[int] | None = None
) -> Iterator[tuple[int, LayerStatistics]]:
    """Yield each wanted layer's statistics (default: all), in order, from blocks of token ids (B, S) without padding.

    To keep memory at one layer, drop a layer's statistics before requesting the next. Raises DiagnosticError (NoCalibration).
    """
    runner = LayerRunner(model)
    entering = (runner.embed(tokens.to(model.device)) for tokens in token_blocks)
    wanted = range(len(runner)) if layers is None else layers
    return walk_from(model, 0, entering, wanted, runner)


def walk_from(
    model: PreTrainedModel,
    first: int,
    hidden_states: Iterable[Tensor],
    layers: Sequence[int],
    runner: LayerRunner | None = None,
) -> Iterator[tuple[int, LayerStatistics]]:
    """Yield the statistics like `walk_layers`, from hidden states (B, S, H) that enter layer `first`; skip earlier layers."""
    runner = runner or LayerRunner(model)
    entering = [hidden.to(model.device) for hidden in hidden_states]
    if not entering:
        raise DiagnosticError(NoCalibration(None))
    shape = shape_of(model.config)
    for layer_idx in range(first, max(layers, default=-1) + 1):
        statistics = _empty(shape.at(layer_idx), model.device) if layer_idx in layers else None
        for index, hidden in enumerate(entering):
            with torch.no_grad(), repeatable(model.device):
                entering[index] = _run(runner, layer_idx, statistics, hidden)
        if statistics is not None:
            yield layer_idx, statistics
            statistics = None  # the caller may have dropped it, too


def _empty(shape: Shape, device: torch.device) -> LayerStatistics:
    width = shape.intermediate if shape.ffn == "dense" else 0
    return LayerStatistics(
        attention=Gram.zeros(shape.hidden, shape.hidden, device),
        ffn=Gram.zeros(shape.hidden, shape.hidden, device),
        activations=Gram.zeros(width, 0, device),
        activation_abs=torch.zeros(width, dtype=torch.float64, device=device),
    )


def _run(runner: LayerRunner, layer_idx: int, statistics: LayerStatistics | None, entering: Tensor) -> Tensor:
    """Run a layer, add its sub-blocks' inputs and outputs to `statistics`, and return its output.

    The output has the same bits with and without `statistics` (None). So several workers, each with a span of layers, make the
    same pieces as one process.
    """
    if statistics is None:
        return runner.run_layer(layer_idx, entering)
    with _counting_activations(runner.layer(layer_idx), statistics):
        trace = runner.trace_layer(layer_idx, entering)
    statistics.attention.add(trace.attention_input, trace.attention_output)
    statistics.ffn.add(trace.ffn_input, trace.ffn_output)
    statistics.calls.append((entering, trace))
    return trace.output


@contextmanager
def _counting_activations(layer: nn.Module, statistics: LayerStatistics) -> Iterator[None]:
    """Inside the context, a dense FFN adds the inputs of its `down_proj` to `statistics`; another FFN adds nothing."""
    if not len(statistics.activation_abs):
        yield
        return

    def down(module: nn.Module, args: Any) -> None:
        statistics.activations.add(args[0])
        flat = args[0].reshape(-1, args[0].shape[-1])
        statistics.activation_abs.add_(flat.abs().sum(0, dtype=torch.float32))

    hook = cast(nn.Module, sub_block_of(layer, "ffn").down_proj).register_forward_pre_hook(down)
    try:
        yield
    finally:
        hook.remove()


def initialised(
    order: Order, model: PreTrainedModel, layer_idx: int, statistics: LayerStatistics
) -> list[PieceState]:
    """Return the states of a layer's pieces, initialised from its statistics; empties `statistics.calls`. Raises DiagnosticError.

    The caller trains the pieces side by side: `MicroBatches` passes each batch of hidden states [B, S, H] that enter the layer,
    with the trace of the parent's layer on them, to every piece. All held-out batches come first, then `begin`, the training
    batches and, where `is_checked_after` says so, the first held-out batch; in the end the held-out batches again.
    """
    for sub_block, gram in (("attention", statistics.attention), ("ffn", statistics.ffn)):
        if not math.isfinite(gram.yy):
            words = str(model.dtype).removeprefix("torch.")
            raise DiagnosticError(ParentNotFinite(None, sub_block=sub_block, layer=layer_idx, dtype=words))
    shape, jobs = shape_of(model.config).at(layer_idx), order.jobs_of(layer_idx)
    students = [Student.build(job, model, statistics, order.init, shape) for job in jobs]
    copies = _copies(students)
    refine([student for student in students if student not in copies], statistics.calls)
    for student, original in copies.items():
        load_weights_into(student.trained, weights_of(original.trained))
    quantise(students, statistics, order.init.quantise)
    statistics.calls.clear()  # the largest part of the statistics, no longer needed
    return_freed_memory()  # as large as the pieces, whose weights were copied into modules
    return [PieceState(student, order.budget.steps) for student in students]


def _copies(students: Sequence[Student]) -> dict[Student, Student]:
    """Map students of quantised pieces to one that starts with equal weights: the unquantised piece's, else the first one's."""
    found: dict[Student, Student] = {}
    first: dict[tuple[object, ...], Student] = {}
    for student in sorted(students, key=lambda student: student.has_storage_type):
        plain = tuple((s, a.in_precision(None)) for s, a in alternatives_of(student.job).items())
        names = tuple(weights_of(student.trained))
        if (plain, names) in first and student.has_storage_type:
            found[student] = first[plain, names]
        first.setdefault((plain, names), student)
    return found
