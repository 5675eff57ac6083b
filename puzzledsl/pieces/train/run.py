"""`pzl bld`: blockwise local distillation (Puzzle, section 3) of every job's piece, in as few passes as memory allows.

For each layer: collect calibration statistics, initialise all its pieces, train them side by side on one forward pass of the
parent's layer, and write them to the block library. Either the hidden states of all tokens move up one layer at a time
(`sweep.py`), or batches run through all layers and no activations are kept (`stream.py`). The pieces are the same, bit for
bit. In both the parent runs once if memory has room for the pieces. An interrupted and resumed run gives the same bytes;
other hardware or another number of threads need not. Callers pass the jobs of exactly one `bld` declaration of the program.

Shapes: V tokens of the vocabulary, H hidden.
"""

import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel

from puzzledsl.alternatives.precision import PRECISIONS
from puzzledsl.base.diagnostics import Args, DiagnosticError
from puzzledsl.base.progress import Progress
from puzzledsl.base.units import BYTES, format_quantity
from puzzledsl.cluster.tasks import Executor
from puzzledsl.data.counts import Budget
from puzzledsl.ir import nodes
from puzzledsl.ir.base import span_of
from puzzledsl.ir.tables import BldJob, Piece
from puzzledsl.models.errors import NoScratchSpace, NoTrainingText
from puzzledsl.models.families.access import shape_of
from puzzledsl.models.families.load import check_tokens, load_config, weights_in
from puzzledsl.models.layerwise import LayerRunner
from puzzledsl.models.least_squares.grams import Gram
from puzzledsl.models.placement import is_paged, reachable_parent, this_device
from puzzledsl.models.precision.gptq import ROWS, gptq
from puzzledsl.pieces.store.library import Library, StageInputs, origin
from puzzledsl.pieces.train.layer_trainer import Order
from puzzledsl.pieces.train.piece_state import MicroBatches
from puzzledsl.pieces.train.stage import Enter, SavedState, weights_of
from puzzledsl.pieces.train.stream import stream, train_elsewhere
from puzzledsl.pieces.train.sweep import make_parts, prepare_work, sweep
from puzzledsl.plan.flop import heads_work, layer_work
from puzzledsl.plan.memory.bld import WorkerPlan, passes_of, sweeps_of


@torch.inference_mode()
def make_heads(
    order: Order, jobs: Sequence[BldJob], library: Library, enter: Enter, progress: Progress
) -> None:
    """Round the output head for each job; write and `enter` the piece. Its loss is the relative squared error of the logits."""
    model = reachable_parent(order.parent_dir, progress, once=True)
    runner, work = LayerRunner(model), heads_work(shape_of(model.config), jobs)
    gram = Gram.zeros(runner.hidden_size, 0, runner.device)
    for tokens_BS in order.calibration_batches():
        entering = runner.embed(tokens_BS.to(runner.device))
        gram.add(runner.final_norm(runner.passed([entering])[0]))
    weight_VH = runner.head_weights()[0].detach()
    whole = _size(weight_VH, gram)
    for job in jobs:
        assert job.head is not None
        precision = PRECISIONS[job.head]
        parts = torch.split(weight_VH, ROWS)
        found_VH = torch.cat([gptq(rows, gram.xx, precision, gram.tokens) for rows in parts])
        loss = _size(found_VH - weight_VH.float(), gram) / whole
        piece = library.write(job, {"weight": found_VH.cpu()}, loss, loss, 0, order.made_from)
        enter(piece, "initial")
        progress.advance(work=work / len(jobs), head=job.head, loss=f"{loss:.3g}")


def _size(weight_VH: torch.Tensor, gram: Gram) -> float:
    """Return the mean over tokens of the squared norm of a matrix's outputs, from the Gram matrix of its inputs."""
    sized = [((rows.double() @ gram.xx) * rows).sum() for rows in torch.split(weight_VH, ROWS)]
    return float(torch.stack(sized).sum()) / max(1, gram.tokens)


def run_bld(inputs: StageInputs) -> None:
    """Make the pieces of a `bld` that the library lacks, and write its index in canonical order. `inputs.jobs`: all its jobs.

    Pieces are trained for `tokens / (context * batch)` steps and keep the better of their initial and trained weights
    on held-out tokens; linear sub-blocks initialised by least squares are already optimal and are not trained.
    Raises DiagnosticError: missing or too little text, checkpoints that cannot be read, alternatives that cannot be made.
    """
    jobs, library, progress = inputs.jobs, inputs.library, inputs.progress
    if not jobs:
        library.finish()
        return
    budget = Budget.of(jobs[0])
    declaration, parent_dir = inputs.program.blds[inputs.name], inputs.parent_dir
    tokens = _text(inputs, budget)
    made_from = origin(parent_dir, tokens)
    todo = [job for job in jobs if not library.has(job.id, made_from)]
    progress.start(f"bld {inputs.name}", len(jobs))
    progress.advance(len(jobs) - len(todo), kept=True)
    if todo:
        rounded = any(job.head or any(a and a.dtype for a in (job.attention, job.ffn)) for job in todo)
        if rounded and comes_from_four_bits(parent_dir):
            progress.log("warning", text=FLATTERED)
        init = inputs.program.spaces[declaration.space].init
        heads = [job for job in todo if job.head is not None]
        todo = [job for job in todo if job.head is None]
        given = (inputs.name, parent_dir, todo, budget, init, tokens, library.root, inputs.work, made_from)
        shape = inputs.program.parents[inputs.program.spaces[declaration.space].parent].shape
        order = Order(*given, work_behind=heads_work(shape, heads))
        enter = partial(_enter, library, progress)
        if todo:
            if inputs.executor.is_local:
                train_locally(declaration, order, enter, progress)
            else:
                train_elsewhere(inputs.executor, order, enter, progress)
        if heads:
            make_heads(order, heads, library, enter, progress)
    library.finish()
    shutil.rmtree(inputs.work, ignore_errors=True)


FLATTERED = (
    "the parent's weights have 16 values in each group of 32, as those of a 4-bit file: types with such a grid lose less here "
    "than of the weights that the file was made from"
)
GROUP, FOUR_BITS, NEARLY_ALL = 32, 16, 0.99


def comes_from_four_bits(parent_dir: Path) -> bool:
    """Return True if nearly all groups of 32 weights, in rows of the largest matrix of the layers, have at most 16 values."""
    weights = weights_in(parent_dir, load_config(parent_dir))
    matrices = [weight for name, weight in weights.items() if ".layers." in name and len(weight.shape) == 2]
    if not matrices:
        return False
    largest = max(matrices, key=lambda weight: weight.nbytes)
    rows = largest.rows(0, min(ROWS, largest.shape[0])).float()
    groups = rows[:, : rows.shape[1] // GROUP * GROUP].reshape(-1, GROUP).sort(-1).values
    values = 1 + (groups.diff(dim=-1) != 0).sum(-1)
    return bool((values <= FOUR_BITS).float().mean() > NEARLY_ALL)


def train_locally(declaration: nodes.Bld, order: Order, enter: Enter, progress: Progress) -> None:
    """Make an order's pieces in this process: by `sweep` if the activations of two layers fit on the disk, else by `stream`.

    An interrupted run goes on in the way that it began. Pieces that do not fit in memory together are made in several passes.
    Raises DiagnosticError: NoScratchSpace if `stream` is needed but impossible, because the parent is read layer by layer or a
    single piece exceeds the memory; NoRoomForPiece if a single piece runs out of memory. `declaration`: the `bld`, for messages.
    """
    model = reachable_parent(order.parent_dir, progress, once=True)
    prepare_work(order, f"{model.device.type} {model.dtype}")
    shape, paged, span = shape_of(model.config), is_paged(model), span_of(declaration.where)
    needed = 2 * shape.hidden * model.dtype.itemsize * order.tokens[order.budget.calibration :].numel()
    free = shutil.disk_usage(order.work).free
    held = 0 if paged else weights_of(model) * model.dtype.itemsize
    device = this_device(model.device, model.dtype, held_bytes=held)
    parts: Sequence[Sequence[BldJob]] | None
    if not SavedState(order).root.exists() and (needed <= free or any(order.work.glob("hidden-*.bin"))):
        # of a single piece that does not seem to fit: free memory is no hard limit on a CPU, and a GPU out of memory is heard
        parts, make = sweeps_of(shape, order.jobs, device, whole=not paged) or [order.jobs], _swept
        if len(parts) > 1:
            count = len(parts)
            text = f"the pieces of a layer do not fit in memory together: they are made in {count} sweeps"
            progress.log("memory", text=text, sweeps=count)
    else:
        parts, make = None if paged else passes_of(shape, order.jobs, device), _streamed
        wanted, left = format_quantity(needed, BYTES), format_quantity(free, BYTES)
        if parts is None:
            where: Args = {"name": declaration.name, "work": order.work}
            raise DiagnosticError(NoScratchSpace(span, needed=wanted, free=left, **where))
        text = f"activations ({wanted}) are not kept: {left} of disk is free"
        if len(parts) > 1:
            text += f"; the pieces do not fit in memory together: they are made in {len(parts)} passes"
        progress.log("streaming", text=text, needed_bytes=needed, free_bytes=free, passes=len(parts))
    progress.ready(order.work_behind + sum(sum(layer_work(shape, jobs).values()) for jobs in parts))
    make_parts(order, parts, lambda part, enter: make(model, part, enter, progress), enter, progress, span)


def _swept(model: PreTrainedModel, part: Order, enter: Enter, progress: Progress) -> None:
    shape, device = shape_of(model.config), this_device(model.device, model.dtype)
    layers = {job.layer: part.jobs_of(job.layer) for job in part.jobs}
    whole = not is_paged(model)
    plans = [WorkerPlan(shape, jobs, idx, idx + 1, device, whole) for idx, jobs in layers.items()]
    blocks = min(plan.micro_blocks for plan in plans)
    sweep(model, part, enter, progress, MicroBatches(LayerRunner(model), blocks))


def _streamed(model: PreTrainedModel, part: Order, enter: Enter, progress: Progress) -> None:
    stream(part, Executor(), enter, progress, model)


def _enter(library: Library, progress: Progress, piece: Piece, kept: str) -> None:
    """Add a piece whose file is written to the library's index, and log it."""
    library.enter(piece)
    losses = {"loss_initial": piece.loss_initial, "loss_final": piece.loss_final}
    progress.log("piece", id=piece.job.id, layer=piece.job.layer, kept=kept, tokens=piece.tokens, **losses)


def _text(inputs: StageInputs, budget: Budget) -> Tensor:
    """Return the tokens [N, S] of the calibration, training and held-out blocks, in this order. Raises DiagnosticError."""
    declaration = inputs.program.blds[inputs.name]
    if declaration.data is None:
        raise DiagnosticError(NoTrainingText(span_of(declaration.where), name=declaration.name))
    tokens = inputs.text(declaration.data, budget.context, budget.blocks, budget.seed)[:]
    check_tokens(inputs.parent_dir, tokens)
    return tokens
