"""Write finished pieces to the library; report non-finite losses after the finite pieces are kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch

from puzzledsl.ir.tables import Piece
from puzzledsl.pieces.errors import LossNotFinite
from puzzledsl.pieces.store.library import Library
from puzzledsl.pieces.train.order import Order
from puzzledsl.pieces.train.piece_state import Outcome

Enter = Callable[[Piece, str], None]
"""Callback for a piece whose file is written. The string says which weights were kept: "trained" or "initial"."""


def write_finished(
    order: Order, outcomes: Iterable[Outcome], dtype: torch.dtype, enter: Enter
) -> list[LossNotFinite]:
    """Write the file of every piece with finite losses, its weights in `dtype`, the parent's, and call `enter` for it.

    Quantised weights stay float32, in which they lie on their grid exactly.

    Returns the diagnostics of the others.
    """
    library, problems = Library(order.library_root), []
    for outcome in outcomes:
        if outcome.finite:
            enter(_write(library, order, outcome, dtype), "trained" if outcome.improved else "initial")
        else:
            problems.append(_diverged(outcome))
    return problems


def _write(library: Library, order: Order, outcome: Outcome, dtype: torch.dtype) -> Piece:
    exact = outcome.student.quantised_names()
    tensors = {n: t if n in exact else t.to(dtype) for n, t in outcome.weights.items()}
    trained = outcome.steps * order.budget.batch * order.budget.context
    losses = outcome.loss_initial, outcome.loss_final
    return library.write(outcome.student.job, tensors, *losses, trained, order.made_from)


def _diverged(outcome: Outcome) -> LossNotFinite:
    job = outcome.student.job
    what = "/".join(f"`{a.name}`" for a in (job.attention, job.ffn) if a is not None)
    loss = outcome.loss_trained if outcome.loss_trained is not None else outcome.loss_initial
    return LossNotFinite(None, name=job.bld, what=what, layer=job.layer, loss=loss, peak=job.lr.peak)
