"""Make the parts of an order one after the other; a part that runs out of memory is made as two smaller ones.

Split BLD into several passes over the text when not all pieces fit in memory; each pass trains pieces of some layers.
"""

from __future__ import annotations

import hashlib
import shutil
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

import torch

from puzzledsl.base.diagnostics import DiagnosticError, Span
from puzzledsl.base.progress import Progress
from puzzledsl.ir.nodes import Shape
from puzzledsl.ir.tables import BldJob, Piece
from puzzledsl.pieces.errors import NoRoomForPiece
from puzzledsl.pieces.train.finished import Enter
from puzzledsl.pieces.train.micro_batches import DoesNotFit
from puzzledsl.pieces.train.order import Order
from puzzledsl.plan.memory.bld import passes_of, sweeps_of
from puzzledsl.plan.memory.stage_plan import Device

Kind = Literal["pass", "sweep"]
"""Parts of an order: passes without activations, with a work directory each, or sweeps over them, which share the order's."""


def passes(order: Order, shape: Shape, device: Device) -> list[Order] | None:
    """Split an order into as few parts as fit the workers, which are `device.count` devices; None if a single piece does not fit.

    Each part has its own work directory, named by a digest of its jobs. So a resumed run finds it again, although finished
    parts are no longer in the order.
    """
    parts = passes_of(shape, order.jobs, device)
    return None if parts is None else [_part(order, jobs, "pass") for jobs in parts]


def sweeps(order: Order, shape: Shape, device: Device, *, whole: bool) -> list[Order]:
    """Split an order into sweeps whose pieces of a layer fit in memory together; the order itself if one is enough.

    It is also the answer if a single piece does not seem to fit: free memory is no hard limit on a CPU, and a GPU that runs out
    of memory is heard.
    """
    parts = sweeps_of(shape, order.jobs, device, whole=whole)
    return [order] if parts is None else [_part(order, jobs, "sweep") for jobs in parts]


def halves(order: Order, kind: Kind) -> list[Order]:
    """Split a part that ran out of memory into two, by layers where it has several; return it alone if it is one job."""
    jobs = list(order.jobs)
    if len(jobs) == 1:
        return [order]
    return [_part(order, half, kind) for half in (jobs[: len(jobs) // 2], jobs[len(jobs) // 2 :])]


def _part(order: Order, jobs: Sequence[BldJob], kind: Kind) -> Order:
    if kind == "sweep":  # activations are the parent's, whichever pieces are trained on them
        return replace(order, jobs=jobs)
    name = hashlib.sha256("\n".join(job.id for job in jobs).encode()).hexdigest()[:12]
    return replace(order, jobs=jobs, work=order.work / f"pass-{name}")


def has_begun(order: Order) -> bool:
    """True if an earlier run has left a work directory of a pass."""
    return any(order.work.glob("pass-*"))


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
