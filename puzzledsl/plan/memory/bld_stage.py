"""Plan of one BLD declaration: calibration with least squares, and training, on one device or on several workers.

Time is that of the worker with the most work: workers run concurrently on different batches. Matrix products of the parent
and of pieces run in the device's dtype, Gram matrices and refinement in float32, least squares in float64, and the optimiser,
sums of Gram matrices and the elimination of channels at the memory's bandwidth.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from puzzledsl.ir.nodes import Shape
from puzzledsl.ir.tables import BldJob
from puzzledsl.plan.flop import StageOneFlop, seen_tokens
from puzzledsl.plan.memory.bld import (
    KEPT,
    MOMENTS,
    WEIGHT,
    WorkerPlan,
    passes_of,
    sweeps_of,
    weights_of,
    workers_of,
)
from puzzledsl.plan.memory.stage_plan import Choice, Device, StagePlan, size_text

OPTIMISER_BYTES = 28
"""Bytes a weight and step: read weight, gradient, two moments; write weight and moments; float32."""


@dataclass(frozen=True, slots=True)
class _Passes:
    """A BLD in passes over the text, with the workers of each; `keeps`: its activations are kept on the disk."""

    shape: Shape
    jobs: Sequence[BldJob]
    device: Device
    disk_bytes: int
    keeps: bool
    parts: Sequence[Sequence[BldJob]]
    workers: Sequence[Sequence[WorkerPlan]]

    @property
    def every(self) -> list[WorkerPlan]:
        """All workers that make pieces."""
        return [worker for of_pass in self.workers for worker in of_pass if worker.jobs]

    @property
    def devices(self) -> int:
        """The devices that work at a time."""
        return 1 if self.keeps else max(map(len, self.workers))

    def calibration_plan(self, name: str) -> StagePlan:
        """Return the plan of initialising the pieces."""
        fullest = max((worker.calibration for worker in self.every), key=lambda parts: sum(parts.values()))
        seconds = sum(self._calibration_s(part) for part in self.parts)
        return StagePlan("calibrate", name, fullest, seconds, devices=self.devices)

    def training_plan(self, name: str) -> StagePlan:
        """Return the plan of training them."""
        blocks = min(worker.micro_blocks for worker in self.every)
        fullest = max((w.training(blocks) for w in self.every), key=lambda parts: sum(parts.values()))
        states = max(map(_state_bytes, self.parts))
        return StagePlan(
            stage="bld",
            name=name,
            devices=self.devices,
            parts=fullest,
            seconds=sum(map(self._training_s, self.parts, self.workers)),
            host_bytes=max(worker.host_bytes for worker in self.every) if self.device.is_gpu else 0,
            scratch_bytes=_activations(self.shape, self.jobs, self.device) if self.keeps else states,
            choices=tuple(self._choices(blocks)),
        )

    def _calibration_s(self, part: Sequence[BldJob]) -> float:
        device, tokens = self.device, self.jobs[0].calibration_tokens
        flop, own = StageOneFlop(self.shape, self.jobs), StageOneFlop(self.shape, part)
        trained = {job.layer for job in part}
        fits = sum(tokens * flop.grams[i] + own.refined[i] for i in trained)
        return (
            tokens * sum(flop.parent[i] for i in range(1 + max(trained))) / device.flop_per_s
            + fits / device.float32_flop_per_s
            + sum(own.solved[i] for i in trained) / device.double_flop_per_s
            + sum(own.moved[i] for i in trained) / device.bandwidth_bytes_per_s
        )

    def _training_s(self, part: Sequence[BldJob], workers: Sequence[WorkerPlan]) -> float:
        """Return the seconds of the busiest worker: passes of the parent and of pieces, and the optimiser."""
        first, device = self.jobs[0], self.device
        flop, own = StageOneFlop(self.shape, self.jobs), StageOneFlop(self.shape, part)
        steps = max(1, first.tokens // (first.context * first.batch)) if first.tokens else 0
        judged = seen_tokens(first) - first.tokens
        alone = len(workers) == 1 or device.count == 1
        spans = [range(1 + max(job.layer for job in part))]
        if not alone:
            spans = [range(worker.first, worker.end) for worker in workers]
        passes = max(
            sum(
                (first.tokens + judged) * flop.parent[i]
                + first.tokens * own.trained[i]
                + judged * own.evaluated[i]
                for i in span
            )
            for span in spans
        )
        weights = max(sum(weights_of(job) for job in part if job.layer in span) for span in spans)
        optimiser = steps * OPTIMISER_BYTES * weights / device.bandwidth_bytes_per_s
        return passes / device.flop_per_s + optimiser

    def _choices(self, blocks: int) -> Iterator[Choice]:
        needed, batch = _activations(self.shape, self.jobs, self.device), self.jobs[0].batch
        kept = "kept on the disk" if self.keeps else "not kept: batches stream through all layers"
        disk = f"{size_text(needed)} of activations, {size_text(self.disk_bytes)} of disk"
        yield Choice("activations", kept, disk)
        if self.device.count > 1:
            layers = max(worker.end - worker.first for worker in self.workers[-1])
            spans = f"{max(map(len, self.workers))} spans of layers"
            yield Choice("workers", spans, f"up to {layers} layers of about equal work")
        if blocks < batch:
            whole = max(sum(worker.training(batch).values()) for worker in self.every)
            why = f"the whole batch takes {size_text(whole)}"
            yield Choice("micro-batch", f"{blocks} of {batch} sequences", why)
        if len(self.parts) > 1:
            busy = [worker for worker in workers_of(self.shape, self.jobs, self.device) if worker.jobs]
            why = f"all pieces together take {size_text(max(worker.least_bytes for worker in busy))}"
            named = f"{len(self.parts)} (layers {', '.join(map(_span, self.parts))})"
            yield Choice("sweeps" if self.keeps else "passes", named, why)


def bld_stages(
    name: str, shape: Shape, jobs: Sequence[BldJob], device: Device, *, disk_bytes: int
) -> list[StagePlan]:
    """Return the plans of calibration and training; one that does not fit, if a single piece exceeds a device.

    `disk_bytes`: free space for the activations of all tokens, which one process keeps if they fit.
    """
    if not jobs:
        return []
    keeps = device.count == 1 and _activations(shape, jobs, device) <= disk_bytes
    parts = sweeps_of(shape, jobs, device) if keeps else passes_of(shape, jobs, device)
    if parts is None:
        return [_too_much(name, shape, jobs, device)]
    workers = [_swept(shape, part, device) if keeps else workers_of(shape, part, device) for part in parts]
    found = _Passes(shape, jobs, device, disk_bytes, keeps, parts, workers)
    return [found.calibration_plan(name), found.training_plan(name)]


def _too_much(name: str, shape: Shape, jobs: Sequence[BldJob], device: Device) -> StagePlan:
    worker = max(
        (worker for job in jobs for worker in workers_of(shape, [job], device)),
        key=lambda worker: worker.least_bytes if worker.jobs else worker.parent_bytes,
    )
    parts = worker.training(1) if worker.jobs else {"parent": worker.parent_bytes}
    why = f"a worker needs {size_text(sum(parts.values()))} for one piece of one layer"
    choice = Choice("none", "does not fit", why)
    return StagePlan("bld", name, parts, 0.0, devices=device.count, choices=(choice,))


def _activations(shape: Shape, jobs: Sequence[BldJob], device: Device) -> int:
    """Return the bytes of all tokens' hidden states at two layers."""
    return 2 * jobs[0].tokens * shape.hidden * device.number_bytes


def _state_bytes(jobs: Sequence[BldJob]) -> int:
    """Return the bytes of the files that training resumes from: two states, while one is written, and the initial weights.

    A state has the best weights besides.
    """
    return (2 * (WEIGHT + MOMENTS + KEPT // 2) + WEIGHT) * sum(map(weights_of, jobs))


def _swept(shape: Shape, jobs: Sequence[BldJob], device: Device) -> list[WorkerPlan]:
    """Return the worker at each layer of a sweep, which holds the whole parent and the pieces of one layer."""
    return [
        WorkerPlan(shape, [job for job in jobs if job.layer == i], i, i + 1, device, whole=True)
        for i in sorted({job.layer for job in jobs})
    ]


def _span(jobs: Sequence[BldJob]) -> str:
    layers = [job.layer for job in jobs]
    return f"{min(layers)}-{max(layers)}"
