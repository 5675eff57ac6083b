"""Plain `generate` of the parent beside the timer of `pzl measure`: both must take equally long.

The plain model is transformers' own class, made anew as a user makes it: weights with `requires_grad`, no hooks, eager Python. It
shares the storage of the parent's weights. Both run the same prompt and the same first steps after it, in turn.
"""

from __future__ import annotations

import time
from typing import Any, cast

import torch
from torch import Tensor
from transformers import PreTrainedModel, StoppingCriteria, StoppingCriteriaList

from puzzledsl.base.frozen import Frozen
from puzzledsl.measure.stopwatch import CpuStopwatch
from puzzledsl.measure.whole import Forward, Workload, prompt_ids
from puzzledsl.models.families.load import empty_model

TURNS = 3


class PlainCheck(Frozen):
    """Least seconds of one prefill and of one decode step of the parent: as `pzl measure` times them, and in plain `generate`."""

    seed: int = 0
    prefill_s: float
    decode_s: float
    plain_prefill_s: float
    plain_decode_s: float


def measure_plain(model: PreTrainedModel, workload: Workload, turns: int | None = None) -> PlainCheck:
    """Time a frozen model and its plain twin in turn, after a warm-up of both."""
    twin = plain_twin(model)
    timed: list[tuple[float, list[float]]] = []
    plain: list[tuple[float, list[float]]] = []
    for turn in range((turns or TURNS) + 1):
        own, theirs = _timed(model, workload), _generated(twin, workload)
        if turn:
            timed.append(own)
            plain.append(theirs)
    (prefill_s, decode_s), (plain_prefill_s, plain_decode_s) = map(_least, (timed, plain))
    return PlainCheck(
        prefill_s=prefill_s,
        decode_s=decode_s,
        plain_prefill_s=plain_prefill_s,
        plain_decode_s=plain_decode_s,
    )


def plain_twin(model: PreTrainedModel) -> PreTrainedModel:
    """Return a model of the same class and config on the same storage, with `requires_grad` and without hooks."""
    twin = empty_model(type(model), model.config, model.dtype, model.device)
    own, theirs = (dict(m.named_parameters(remove_duplicate=False)) for m in (twin, model))
    for name in own:
        holder, _, leaf = name.rpartition(".")
        parameter = torch.nn.Parameter(theirs[name].detach())
        setattr(twin.get_submodule(holder), leaf, parameter)
    untyped: Any = twin
    untyped.tie_weights()
    for name, buffer in model.named_buffers():
        holder, _, leaf = name.rpartition(".")
        setattr(twin.get_submodule(holder), leaf, buffer)
    twin.generation_config = model.generation_config
    return cast(PreTrainedModel, untyped.eval())


@torch.inference_mode()
def _timed(model: PreTrainedModel, workload: Workload) -> tuple[float, list[float]]:
    """Seconds of a prefill and of the first steps after it, as `WholeTimer` times them."""
    forward, watch = Forward(model, workload), CpuStopwatch()
    prefill_s = sum(watch.prepare(forward.prefill)())
    step = watch.prepare(forward.decode_step)
    return prefill_s, [sum(step()) for _ in range(workload.window)]


class _Clock(StoppingCriteria):
    """Recorder of the moment at which each token is chosen."""

    def __init__(self) -> None:
        self.moments: list[float] = []

    def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Tensor:
        self.moments.append(time.perf_counter())
        return torch.zeros(input_ids.shape[0], dtype=torch.bool, device=input_ids.device)


def _generated(twin: PreTrainedModel, workload: Workload) -> tuple[float, list[float]]:
    """Seconds of a prefill and of the first steps after it, in `generate`. Its preparations before the prefill do not count."""
    ids, clock = prompt_ids(twin, workload), _Clock()
    began: list[float] = []
    handle = twin.register_forward_pre_hook(lambda *_: began.append(time.perf_counter()))
    try:
        untyped: Any = twin
        untyped.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=workload.window + 1,
            min_new_tokens=workload.window + 1,
            do_sample=False,
            num_beams=1,
            pad_token_id=0,
            stopping_criteria=StoppingCriteriaList([clock]),
        )
    finally:
        handle.remove()
    first, *later = clock.moments
    steps = [b - a for a, b in zip(clock.moments, later, strict=False)]
    return first - began[0], steps


def _least(turns: list[tuple[float, list[float]]]) -> tuple[float, float]:
    """Return the least seconds of a prefill and of a step: other work on the machine can only lengthen them."""
    return min(prefill for prefill, _ in turns), min(step for _, steps in turns for step in steps)
