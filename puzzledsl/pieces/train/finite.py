"""Report non-finite losses and activations immediately; keep finished pieces."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch

from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.ir.alternatives import name_of
from puzzledsl.pieces.initialise.statistics import LayerStatistics
from puzzledsl.pieces.train.errors import LossNotFinite, ParentNotFinite
from puzzledsl.pieces.train.training import Outcome


def keep_finite(outcomes: Sequence[Outcome], keep: Callable[[Outcome], None]) -> None:
    """Call `keep` for every piece with finite losses, then raise DiagnosticError (LossNotFinite) for the others, if any."""
    for outcome in outcomes:
        if outcome.finite:
            keep(outcome)
    if lost := [diverged(outcome) for outcome in outcomes if not outcome.finite]:
        raise DiagnosticError(*lost)


def diverged(outcome: Outcome) -> LossNotFinite:
    """Return the diagnostic for a piece whose loss is not finite."""
    job = outcome.student.job
    what = "/".join(f"`{name_of(a)}`" for a in (job.attention, job.ffn) if a is not None)
    loss = outcome.loss_trained if outcome.loss_trained is not None else outcome.loss_initial
    return LossNotFinite(None, name=job.bld, what=what, layer=job.layer, loss=loss, peak=job.lr.peak)


def refuse_what_is_not_finite(layer_idx: int, statistics: LayerStatistics, dtype: torch.dtype) -> None:
    """Raise DiagnosticError (ParentNotFinite) if a sub-block of the layer outputs NaN or infinity on calibration tokens.

    Called before any piece is fitted to these outputs.
    """
    for sub_block, gram in (("attention", statistics.attention), ("ffn", statistics.ffn)):
        if not math.isfinite(gram.yy):
            words = str(dtype).removeprefix("torch.")
            raise DiagnosticError(ParentNotFinite(None, sub_block=sub_block, layer=layer_idx, dtype=words))
