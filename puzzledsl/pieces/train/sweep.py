"""BLD layer by layer: one pass up the parent that makes all pieces of a layer before it moves on.

It is `pieces.train.stage` with a span of one layer. The layer's inputs for all training and held-out tokens lie in a
memory-mapped file, `work/hidden-<layer>.bin`, which is written under a temporary name, fsynced and renamed. The file of the
layer below is deleted only at the next step, when the pieces trained on it are in the library, so an interrupted run resumes at
its last unfinished layer. Blocks lie in the order in which they are visited, so that the checksum is that of the bytes as they
are written.

Pieces that do not fit in memory together are made in parts, one after the other. A part that runs out of memory is halved.

Shapes: N blocks, B sequences, S positions, H hidden.
"""

import shutil
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel

from puzzledsl.base.diagnostics import DiagnosticError, Span
from puzzledsl.base.files import Sealing, is_sealed, replacing, reserve, write_text
from puzzledsl.base.progress import Progress
from puzzledsl.data.counts import Budget
from puzzledsl.ir.tables import BldJob, Piece
from puzzledsl.models.errors import NoRoomForPiece
from puzzledsl.models.families.access import shape_of
from puzzledsl.models.layerwise import LayerRunner
from puzzledsl.pieces.train import piece_state
from puzzledsl.pieces.train.layer_trainer import Order, initialised, is_checked_after, walk_layers
from puzzledsl.pieces.train.stage import Enter, SavedState, write_finished
from puzzledsl.plan.flop import layer_work

LAYOUT = "3"
"""Layout of unfinished work; raised when it changes, so that work in another layout is not continued."""


def prepare_work(order: Order, arithmetic: str) -> None:
    """Empty `work` unless its content comes from the same parent, text, budget and arithmetic (device and dtype)."""
    key = f"{LAYOUT}\n{order.made_from}\n{order.budget}\n{arithmetic}\n"
    stamp = order.work / "made_from.txt"
    if stamp.is_file() and stamp.read_text() == key:
        return
    shutil.rmtree(order.work, ignore_errors=True)
    order.work.mkdir(parents=True)
    write_text(stamp, key)


MakePart = Callable[[Order, Enter], None]
"""Callback that makes and enters every piece of a part. If it raises torch.OutOfMemoryError, entered pieces stay finished."""


def make_parts(
    order: Order,
    parts: Sequence[Sequence[BldJob]],
    make: MakePart,
    enter: Enter,
    progress: Progress,
    span: Span | None = None,
) -> None:
    """Make an order's jobs part by part. A part that runs out of memory is halved. Raises DiagnosticError (NoRoomForPiece)."""
    waiting = deque(parts)
    while waiting:
        reason, left = _made(replace(order, jobs=waiting.popleft()), make, enter)
        if reason is None:
            SavedState(order).forget()  # its pieces are in the library; the next part needs the disk
            continue
        if len(left) < 2:
            raise DiagnosticError(NoRoomForPiece(span, name=order.name, layer=left[0].layer, reason=reason))
        text = f"out of memory ({reason}): the {len(left)} pieces are made in two passes more"
        progress.log("memory", text=text, pieces=len(left))
        waiting.extendleft((left[len(left) // 2 :], left[: len(left) // 2]))


def _made(part: Order, make: MakePart, enter: Enter) -> tuple[str | None, list[BldJob]]:
    """Make a part. Return the reason if it ran out of memory, else None; and the jobs whose pieces are not finished."""
    finished: set[str] = set()

    def entered(piece: Piece, kept: str) -> None:
        finished.add(piece.job.id)
        enter(piece, kept)

    reason = None
    try:
        make(part, entered)
    except torch.OutOfMemoryError as error:
        reason = str(error).splitlines()[0]
    if reason is not None:
        torch.cuda.empty_cache()  # outside of `except`, whose traceback holds tensors
    return reason, [job for job in part.jobs if job.id not in finished]


Visit = Callable[[int, Tensor], Tensor]


class Activations:
    """File of the hidden states [N, S, H] that enter layer `layer_idx`, for all tokens of a sweep."""

    def __init__(
        self, runner: LayerRunner, tokens_NS: Tensor, batches: Sequence[slice], work: Path, *, last_layer: int
    ) -> None:
        """Open the intact file of the highest layer up to `last_layer` in `work`, else embed. `batches`: slices of blocks."""
        self._runner, self._tokens, self._batches, self._work = runner, tokens_NS, batches, work
        kept = [n for n in _layers_in(work) if n <= last_layer and is_sealed(self._path(n))]
        self.layer_idx = max(kept, default=0)
        if not kept:
            self._write(0, lambda _, tokens: runner.embed(tokens), tokens_NS)
        self._forget_others()

    def move_to(self, layer_idx: int) -> None:
        """Run layers of the parent, without gradients, until the file holds the input of `layer_idx`."""
        while (here := self.layer_idx) < layer_idx:
            with torch.no_grad():
                self.step(lambda _, hidden, here=here: self._runner.run_layer(here, hidden))  # type: ignore[misc]

    def step(self, visit: Visit, *, on_host: bool = False) -> None:
        """Move up one layer. `visit(number, hidden)` gets each batch, in host memory if `on_host`, and returns its output."""
        self._forget_others()
        self._write(self.layer_idx + 1, visit, self._map(self._path(self.layer_idx)), on_host=on_host)
        self.layer_idx += 1

    def _write(self, layer_idx: int, visit: Visit, entering: Tensor, *, on_host: bool = False) -> None:
        """Write `visit(number, batch)` of each batch of `entering` to the file of `layer_idx`."""
        device = torch.device("cpu") if on_host else self._runner.device
        with replacing(self._path(layer_idx)) as temporary:
            reserve(temporary, self._tokens.numel() * self._runner.hidden_size * self._runner.dtype.itemsize)
            leaving, downloads = self._map(temporary), piece_state.Downloads()
            with Sealing(temporary) as sealing:
                places = iter([leaving[where] for where in self._batches])

                def put(content_BSH: Tensor) -> None:
                    place = next(places)
                    place.copy_(content_BSH)
                    sealing.add(place.view(torch.uint8).numpy().data)

                batches = piece_state.uploaded((entering[where] for where in self._batches), device)
                for number, batch in enumerate(batches):
                    downloads.add(visit(number, batch), put)
                downloads.finish()

    def _map(self, path: Path) -> Tensor:
        """Memory-map a file as a tensor [N, S, H]. Shared even for reading: a private map counts as memory of the process."""
        shape = (*self._tokens.shape, self._runner.hidden_size)
        size = shape[0] * shape[1] * shape[2]
        return torch.from_file(str(path), shared=True, size=size, dtype=self._runner.dtype).view(shape)

    def _path(self, layer_idx: int) -> Path:
        return self._work / f"hidden-{layer_idx}.bin"

    def _forget_others(self) -> None:
        for layer in _layers_in(self._work):
            if layer != self.layer_idx:
                self._path(layer).unlink()


def _layers_in(work: Path) -> list[int]:
    found = (path.stem.removeprefix("hidden-") for path in work.glob("hidden-*.bin"))
    return [int(layer) for layer in found if layer.isdecimal()]


def sweep(
    model: PreTrainedModel, order: Order, enter: Enter, progress: Progress, micro: piece_state.MicroBatches
) -> None:
    """Make the pieces of an order, layer by layer; call `enter` for each whose file is written.

    Resumes from the activations of an interrupted sweep over the same tokens in `order.work`. Calibration tokens are run again
    from layer 0, forward only.

    Raises DiagnosticError: LossNotFinite, and those of `initialised`.
    """
    work = layer_work(shape_of(model.config), order.jobs)

    def entered(piece: Piece, kept: str) -> None:
        """Enter a piece and report progress. The first piece counts for all of its layer, which are finished together."""
        enter(piece, kept)
        layer, losses = piece.job.layer, f"{piece.loss_initial:.3g} -> {piece.loss_final:.3g}"
        progress.advance(work=work.pop(layer, 0.0), layer=layer, loss=losses)

    runner, budget = LayerRunner(model), order.budget
    layers = sorted({job.layer for job in order.jobs})
    visited = torch.cat([*order.held_out_batches(), *order.training_batches()])
    activations = Activations(runner, visited, _batches(budget), order.work, last_layer=layers[0])
    for layer_idx, statistics in walk_layers(model, order.calibration_batches(), layers=layers):
        activations.move_to(layer_idx)
        pieces = initialised(order, model, layer_idx, statistics)
        _train(pieces, activations, budget, micro)
        if problems := write_finished(order, pieces, runner.dtype, entered):
            raise DiagnosticError(*problems)
        del pieces, statistics  # before the next layer's are made: together they are most of the memory


def _batches(budget: Budget) -> list[slice]:
    """Return the slices of a sweep's blocks (held-out ones, then training ones): held-out batches, then one batch a step."""
    total = budget.training + budget.held_out
    held_out = range(0, budget.held_out, budget.batch)
    return [slice(*ends) for ends in pairwise([*held_out, *range(budget.held_out, total + 1, budget.batch)])]


def _train(
    pieces: Sequence[piece_state.PieceState],
    activations: Activations,
    budget: Budget,
    micro: piece_state.MicroBatches,
) -> None:
    """Run the parent's layer once over all tokens, and pass every batch to the layer's pieces."""
    layer_idx, held_out_batches = activations.layer_idx, -(-budget.held_out // budget.batch)
    held_out: list[Tensor] = []

    def visit(number: int, hidden_BSH: Tensor) -> Tensor:
        if number >= held_out_batches:
            leaving_BSH = micro.through(layer_idx, pieces, hidden_BSH, piece_state.STEP)
            if is_checked_after(number + 1 - held_out_batches, budget.steps):
                micro.through(layer_idx, pieces, held_out[0], piece_state.CHECK)
            return leaving_BSH
        held_out.append(hidden_BSH)
        leaving_BSH = micro.through(layer_idx, pieces, hidden_BSH, piece_state.EVALUATE)
        if len(held_out) == held_out_batches:
            for piece in pieces:
                piece.begin()
        return leaving_BSH

    activations.step(visit, on_host=micro.blocks < budget.batch)
    for hidden_BSH in held_out if budget.steps else ():
        micro.through(layer_idx, pieces, hidden_BSH, piece_state.EVALUATE)
