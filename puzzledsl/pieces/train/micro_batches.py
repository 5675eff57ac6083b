"""Run a batch through layers and their pieces in micro-batches that fit in memory, as plans say.

Gradients of a batch are the sums of its micro-batches', so the step is that of the whole batch but for the rounding of sums.
A batch that fits runs whole, in the same operations as ever. On a GPU, copies overlap with computation: pinned memory, a stream
of its own, one copy ahead.

Shapes: B sequences, S positions, H hidden.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from puzzledsl.models.layerwise import LayerRunner
from puzzledsl.models.least_squares.grams import LayerTrace
from puzzledsl.pieces.train.piece_state import PieceState

Deliver = Callable[[Tensor], object]
"""Take a tensor in the host's memory; it is valid during the call."""


def uploaded(parts: Iterable[Tensor], device: torch.device) -> Iterator[Tensor]:
    """Yield tensors of the host's memory on the device, in order. The next one is copied while the caller uses one."""
    if device.type != "cuda":
        yield from (part.to(device) for part in parts)
        return
    here, stream = torch.cuda.current_stream(device), torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def copied(part: Tensor) -> Tensor:
        """Begin the copy of a part, into memory of the current stream, which may have been in use until now."""
        if part.is_cuda:
            return part
        copy = torch.empty(part.shape, dtype=part.dtype, device=device)
        stream.wait_stream(here)
        with torch.cuda.stream(stream):
            return copy.copy_(part.pin_memory(), non_blocking=True)

    try:
        waiting: Tensor | None = None
        for part in parts:
            following = copied(part)
            if waiting is not None:
                yield waiting
            here.wait_stream(stream)
            waiting = following
        if waiting is not None:
            yield waiting
    finally:
        here.wait_stream(stream)  # before the memory of a copy that nobody waits for is used again


Copy = tuple[torch.cuda.Event, Tensor, Deliver]
"""A copy under way: the event that ends it, its memory, and who gets it."""


class Downloads:
    """Copies from the device to the host, each delivered when the next one is asked for, or by `finish`."""

    def __init__(self) -> None:
        self._under_way: Copy | None = None

    def add(self, tensor: Tensor, deliver: Deliver) -> None:
        """Deliver a tensor's content in the host's memory, in the order of these calls."""
        if not tensor.is_cuda:
            self.finish()
            deliver(tensor)
            return
        pinned = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
        pinned.copy_(tensor, non_blocking=True)
        copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
        copied.record(torch.cuda.current_stream(tensor.device))
        self.finish((copied, pinned, deliver))

    def finish(self, following: Copy | None = None) -> None:
        """Deliver what is under way; `following` is then."""
        before, self._under_way = self._under_way, following
        if before is not None:
            copied, pinned, deliver = before
            copied.synchronize()
            deliver(pinned)


Each = Callable[[PieceState, Tensor, LayerTrace], None]


@dataclass(frozen=True, slots=True)
class Visit:
    """Calls of a piece on a batch: `whole` on all of it, or `part` on each of several micro-batches, `update`, and `end`."""

    whole: Each
    part: Each
    update: Callable[[PieceState], None] = lambda piece: None
    end: Callable[[PieceState], None] = lambda piece: None


STEP = Visit(PieceState.accumulate, partial(PieceState.accumulate, weighted=True), update=PieceState.update)
EVALUATE = Visit(PieceState.evaluate, PieceState.evaluate)
CHECK = Visit(PieceState.observe, PieceState.observe, end=PieceState.judge)


class MicroBatches:
    """Runs batches through layers of `runner`, at most `blocks` sequences at a time."""

    def __init__(self, runner: LayerRunner, blocks: int) -> None:
        self._runner, self.blocks = runner, blocks

    def through(
        self, layer_idx: int, pieces: Sequence[PieceState], hidden_BSH: Tensor, visit: Visit
    ) -> Tensor:
        """Run one layer and its pieces on a batch; return the output [B, S, H], on the host if in parts."""
        if len(hidden_BSH) <= self.blocks:
            return self._whole(layer_idx, pieces, hidden_BSH.to(self._runner.device), visit)
        return self._parts(layer_idx, pieces, hidden_BSH, visit)

    def forward(self, layers: Sequence[int], hidden_BSH: Tensor) -> Tensor:
        """Run consecutive layers without pieces on a batch. Return the last one's output, [B, S, H]."""

        def part(part_BSH: Tensor) -> Tensor:
            with torch.no_grad():
                for layer_idx in layers:
                    part_BSH = self._runner.run_layer(layer_idx, part_BSH)
            return part_BSH

        if len(hidden_BSH) <= self.blocks:
            return part(hidden_BSH.to(self._runner.device))
        return self._collected(hidden_BSH, part)

    def _whole(
        self, layer_idx: int, pieces: Sequence[PieceState], hidden_BSH: Tensor, visit: Visit
    ) -> Tensor:
        trace = self._traced(layer_idx, hidden_BSH)
        for piece in pieces:  # one piece's gradients exist at a time
            visit.whole(piece, hidden_BSH, trace)
            visit.update(piece)
        for piece in pieces:  # when all have seen the batch, which one may have no memory for
            visit.end(piece)
        return trace.output

    def _parts(
        self, layer_idx: int, pieces: Sequence[PieceState], hidden_BSH: Tensor, visit: Visit
    ) -> Tensor:
        def part(part_BSH: Tensor) -> Tensor:
            trace = self._traced(layer_idx, part_BSH)
            for piece in pieces:
                visit.part(piece, part_BSH, trace)
            return trace.output

        leaving_BSH = self._collected(hidden_BSH, part)
        for piece in pieces:
            visit.update(piece)
            visit.end(piece)
        return leaving_BSH

    def _collected(self, hidden_BSH: Tensor, run: Callable[[Tensor], Tensor]) -> Tensor:
        """Return the results of `run` on each micro-batch, together, in the host's memory."""
        leaving_BSH = torch.empty(hidden_BSH.shape, dtype=hidden_BSH.dtype)
        places, downloads = iter(torch.split(leaving_BSH, self.blocks)), Downloads()
        for part_BSH in uploaded(torch.split(hidden_BSH, self.blocks), self._runner.device):
            downloads.add(run(part_BSH), next(places).copy_)
        downloads.finish()
        return leaving_BSH

    @torch.no_grad()
    def _traced(self, layer_idx: int, hidden_BSH: Tensor) -> LayerTrace:
        return self._runner.trace_layer(layer_idx, hidden_BSH)
