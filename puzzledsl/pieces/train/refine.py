"""Refine initial weights by nonlinear least squares (Gauss-Newton) on all linear maps of a piece; no training.

The start is the least-squares fit of the last map. Pieces from the paper's initialisers are left as they are, and linear
sub-blocks are exact optima already. Everything is computed in float32, whatever the parent's dtype.

Shapes: B sequences, S positions, H hidden.

Calibration calls in float32, whatever the parent's dtype.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any, cast

import torch
from torch import Tensor, nn

from puzzledsl.alternatives.alternative import SubBlock
from puzzledsl.models.families.access import norm_behind, part_of, sub_block_of
from puzzledsl.models.layer_trace import LayerTrace, TracedBatch
from puzzledsl.models.least_squares.grams import Gram, refit
from puzzledsl.pieces.initialise.gauss_newton import Fit
from puzzledsl.pieces.train.student import Student, alternatives_of
from puzzledsl.plan.flop import FITTED_SHARE, has_numbers_enough, is_refined


def float_batch(call: TracedBatch) -> TracedBatch:
    """Return a call whose floating-point tensors are float32."""
    entering, trace = call
    return entering.float(), LayerTrace(**{f.name: _float(getattr(trace, f.name)) for f in fields(trace)})


def _float(value: Any) -> Any:
    match value:
        case Tensor() if value.is_floating_point():
            return value.float()
        case dict():
            return {name: _float(part) for name, part in value.items()}
        case tuple():
            return tuple(_float(part) for part in value)
        case _:
            return value


def refine(students: Sequence[Student], calls: Sequence[TracedBatch]) -> None:
    """Fit the pieces of one layer, in place, to the parent's outputs on most of the calibration batches.

    A fit is kept only if it also reduces the error on the last batch, which it is not fitted to. Skips pieces that are not to
    be refined, that have too many weights for the number of calibration values, or whose weights are not all float32.
    """
    batches = int(FITTED_SHARE * len(calls))
    numbers = sum(entering.numel() for entering, _ in calls[:batches])
    wanted = [
        student
        for student in students
        if is_refined(student.job) and has_numbers_enough(_size(student), numbers) and _is_float32(student)
    ]
    if not wanted:
        return
    fitted = [float_batch(call) for call in calls[:batches]]
    judging = [float_batch(calls[-1])]
    for student in wanted:
        if Fit(_linears(student), _Residual(student), fitted, judging).run():
            _refit_last(student, calls)


def _linears(student: Student) -> list[nn.Linear]:
    return [module for module in student.trained.modules() if isinstance(module, nn.Linear)]


def _size(student: Student) -> int:
    return sum(linear.weight.numel() for linear in _linears(student))


def _is_float32(student: Student) -> bool:
    """False if one half of a coupled piece is the parent's module in bfloat16; a fit would then follow its rounding errors."""
    layer, parts = student.layer, alternatives_of(student.job)
    modules = [sub_block_of(layer, sub_block) for sub_block in parts if part_of(layer, sub_block) is not None]
    return all(weight.dtype == torch.float32 for module in modules for weight in module.parameters())


class _Residual:
    """Residual of the fit: what the piece adds to the stream minus what the parent's sub-block adds, [B, S, H]."""

    def __init__(self, student: Student) -> None:
        self._student = student

    def __call__(self, batch: TracedBatch) -> Tensor:
        return self._student.forward(*batch) - self._student.target(batch[1])


@torch.no_grad()
def _refit_last(student: Student, calls: Sequence[TracedBatch]) -> None:
    """Refit the last linear map of a piece by least squares on all calibration tokens; `Fit` used only a part of them."""
    last = _last(student)
    if last is None:
        return
    bias = cast(Tensor | None, last.bias)  # torch's type stubs do not allow None
    gram = Gram.zeros(last.in_features, last.out_features, last.weight.device)
    noted: list[Tensor] = []
    hook = last.register_forward_hook(lambda module, args, output: noted.extend((args[0], output)))
    try:
        for hidden, trace in map(float_batch, calls):
            made = student.forward(hidden, trace)
            read, gave = noted
            noted.clear()
            wanted = student.target(trace) - made + gave
            gram.add(read, wanted if bias is None else wanted - bias)
    finally:
        hook.remove()
    last.weight.copy_(refit(gram, last.weight))


def _last(student: Student) -> nn.Linear | None:
    """Return the last linear map of a piece if its output is linear in it.

    None for a piece without such a map of its own, for example one whose attention is followed by the parent's FFN, and for
    one with a norm behind it.
    """
    job = student.job
    if job.ffn is not None and job.ffn.is_parent:
        return None
    sub_block: SubBlock
    if job.ffn is not None and job.ffn.kind != "noop":
        sub_block, name = "ffn", job.ffn.last_map
    elif job.attention is not None and not job.attention.is_parent:
        sub_block, name = "attention", job.attention.last_map
    else:
        return None
    if name is None or norm_behind(student.layer, sub_block) is not None:
        return None
    return cast(nn.Linear, getattr(sub_block_of(student.layer, sub_block), name))
