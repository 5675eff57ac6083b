"""Speed of parent and child in every measured scenario, alternating so that both meet the same machine load.

A child's time is the parent's, times the ratio measured while the two alternated. So children that were timed at
different moments can be compared.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from transformers import PreTrainedModel

from puzzledsl.base.frozen import Frozen
from puzzledsl.ir.nodes import Hardware
from puzzledsl.ir.tables import Figure
from puzzledsl.measure.stopwatch import spread
from puzzledsl.measure.whole import Samples, WholeTimer, Workload

ROUNDS = 5


class Speed(Frozen):
    """Seconds of one prefill and of one decode step in one scenario, with relative standard errors."""

    prefill_s: float
    decode_step_s: float
    prefill_error: float
    decode_error: float


class TimeInEngine(Protocol):
    """Timer of models in the engine of a hardware that serves exported models."""

    def __call__(
        self, hardware: Hardware, workload: Workload, models: Sequence[Path], turns: int
    ) -> Sequence[Samples]:
        """Time the models of directories in turn. Raises DiagnosticError."""


def speed_alone(model: PreTrainedModel, workload: Workload, advance: Callable[[int], None]) -> Speed:
    """Return a model's speed with nothing beside it: the parent's, or a child's that does not fit beside it."""
    timer = WholeTimer(model, workload)
    for turn in range(ROUNDS + 1):
        timer.round(keep=turn > 0)
        advance(1)
    return usual_speed(timer.samples)


def usual_speed(samples: Samples) -> Speed:
    """Return the medians."""
    prefill, decode = samples.prefill, samples.decode
    return Speed(
        prefill_s=statistics.median(prefill),
        decode_step_s=statistics.median(decode),
        prefill_error=spread(prefill) / statistics.median(prefill),
        decode_error=spread(decode) / statistics.median(decode),
    )


def child_speed(
    parent: PreTrainedModel,
    usual: Speed,
    child: PreTrainedModel,
    workload: Workload,
    advance: Callable[[int], None],
) -> Speed:
    """The child beside its parent, whose `usual` speed was measured before."""
    timers = [WholeTimer(model, workload) for model in (parent, child)]
    for turn in range(ROUNDS + 1):
        for timer in timers:
            timer.round(keep=turn > 0)
        advance(1)
    return relative_speed(usual, *(timer.samples for timer in timers))


def relative_speed(usual: Speed, parents: Samples, children: Samples) -> Speed:
    """Return a child's speed: its parent's `usual` one, times the ratios of what was measured in turn."""
    prefill = _ratios(children.prefill, parents.prefill)
    decode = _ratios(children.decode, parents.decode)
    return Speed(
        prefill_s=usual.prefill_s * statistics.median(prefill),
        decode_step_s=usual.decode_step_s * statistics.median(decode),
        prefill_error=spread(prefill) / statistics.median(prefill),
        decode_error=spread(decode) / statistics.median(decode),
    )


def _ratios(child: Sequence[float], parent: Sequence[float]) -> list[float]:
    return [c / p for c, p in zip(child, parent, strict=True)]


def speed_figures(scenario: str, speed: Speed, workload: Workload) -> dict[str, Figure]:
    """Return `SCENARIO.prefill_tokens_per_s`, `.decode_tokens_per_s`, `.latency_s` and `.throughput`.

    Latency is that of the prompt and all outputs. Throughput is in output tokens of the batch per second, prefill included.
    """
    prefill, step = speed.prefill_s, speed.decode_step_s
    latency = prefill + workload.output * step
    parts = prefill * speed.prefill_error, workload.output * step * speed.decode_error
    latency_error = (parts[0] ** 2 + parts[1] ** 2) ** 0.5 / latency
    values = {
        "prefill_tokens_per_s": (workload.batch * workload.prompt / prefill, speed.prefill_error, "tok/s"),
        "decode_tokens_per_s": (workload.batch / step, speed.decode_error, "tok/s"),
        "latency_s": (latency, latency_error, "s"),
        "throughput": (workload.batch * workload.output / latency, latency_error, "tok/s"),
    }
    return {
        f"{scenario}.{name}": Figure(value=value, stderr=value * error, unit=unit)
        for name, (value, error, unit) in values.items()
    }
