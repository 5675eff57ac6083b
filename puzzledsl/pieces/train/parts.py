"""Make the parts of an order one after the other; a part that runs out of memory is made as two smaller ones."""

from __future__ import annotations

import shutil
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch

from puzzledsl.base.diagnostics import DiagnosticError, Span
from puzzledsl.base.progress import Progress
from puzzledsl.ir.tables import Piece
from puzzledsl.pieces.errors import NoRoomForPiece
from puzzledsl.pieces.train.finished import Enter
from puzzledsl.pieces.train.micro_batches import DoesNotFit
from puzzledsl.pieces.train.order import Order
from puzzledsl.pieces.train.passes import Kind, halves

MakePart = Callable[[Order, Enter], None]
"""Makes every piece of a part. Raises DoesNotFit or torch.OutOfMemoryError; pieces that it has entered are finished."""


def make_parts(
    parts: Sequence[Order],
    kind: Kind,
    make: MakePart,
    enter: Enter,
    progress: Progress,
    span: Span | None = None,
) -> None:
    """Make all parts. Raises DiagnosticError (NoRoomForPiece) if a single piece runs out of memory, and what `make` raises."""
    waiting = deque(parts)
    while waiting:
        part = waiting.popleft()
        reason, left = _made(part, make, enter)
        if reason is None:
            if kind == "pass":  # its pieces are in the library; the next pass needs the disk
                shutil.rmtree(part.work, ignore_errors=True)
            continue
        if len(left.jobs) < 2:
            layer = left.jobs[0].layer
            raise DiagnosticError(NoRoomForPiece(span, name=part.name, layer=layer, reason=reason))
        text = f"out of memory ({reason}): the {len(left.jobs)} pieces are made in two passes more"
        progress.log("memory", text=text, pieces=len(left.jobs))
        waiting.extendleft(reversed(halves(left, kind)))


def _made(part: Order, make: MakePart, enter: Enter) -> tuple[str | None, Order]:
    """Make a part. Return why it ran out of memory, or None, and what is left of it."""
    finished: set[str] = set()

    def entered(piece: Piece, kept: str) -> None:
        finished.add(piece.job.id)
        enter(piece, kept)

    reason = None
    try:
        make(part, entered)
    except (DoesNotFit, torch.OutOfMemoryError) as error:
        reason = str(error).splitlines()[0]
    if reason is not None:
        torch.cuda.empty_cache()  # outside of `except`, whose traceback holds tensors
    return reason, replace(part, jobs=[job for job in part.jobs if job.id not in finished])
