"""Plan of one BLD declaration: calibration with least squares, and training, on one device or on several workers.

Time is that of the worker with the most work: workers run concurrently on different batches. Matrix products of the parent
and of pieces run in the device's dtype, Gram matrices and refinement in float32, least squares in float64, and the optimiser,
sums of Gram matrices and the elimination of channels at the memory's bandwidth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from puzzledsl.ir.nodes import Shape
from puzzledsl.ir.tables import BldJob
from puzzledsl.plan.flop import StageOneFlop, seen_tokens
from puzzledsl.plan.memory.activations import KEPT, MOMENTS, WEIGHT, weights_of
from puzzledsl.plan.memory.bld import WorkerPlan, passes_of, sweeps_of, workers_of
from puzzledsl.plan.memory.stage_plan import Choice, Device, StagePlan, size_text

OPTIMISER_BYTES = 28
"""Bytes a weight and step: read weight, gradient, two moments; write weight and moments; float32."""


@dataclass(frozen=True, slots=True)
class BldPlan:
    """Passes of a BLD with their workers, and both stages."""

    passes: Sequence[Sequence[BldJob]]
    workers: Sequence[Sequence[WorkerPlan]]
    keeps_activations: bool
    calibration: StagePlan
    training: StagePlan


def bld_plan_of(
    name: str, shape: Shape, jobs: Sequence[BldJob], device: Device, *, disk_bytes: int
) -> BldPlan | None:
    """Return the plan of a declaration's jobs; None if a single piece does not fit a device.

    `disk_bytes`: free space for the activations of all tokens, which one process keeps if they fit.
    """
    activations = 2 * jobs[0].tokens * shape.hidden * device.number_bytes
    keeps = device.count == 1 and activations <= disk_bytes
    passes = sweeps_of(shape, jobs, device) if keeps else passes_of(shape, jobs, device)
    if passes is None:
        return None
    workers = [_swept(shape, part, device) if keeps else workers_of(shape, part, device) for part in passes]
    busy = [[worker for worker in of_pass if worker.jobs] for of_pass in workers]
    every = [worker for of_pass in busy for worker in of_pass]
    blocks = min(worker.micro_blocks for worker in every)
    fullest = max(every, key=lambda worker: sum(worker.training(blocks).values()))
    calibrated = max(every, key=lambda worker: sum(worker.calibration.values()))
    time = _Time(shape, jobs, device, passes, workers)
    devices = 1 if keeps else max(map(len, workers))
    calibration = StagePlan(
        stage="calibrate",
        name=name,
        parts=calibrated.calibration,
        seconds=time.calibration_s,
        devices=devices,
    )
    host = max(worker.host_bytes for worker in every) if device.is_gpu else 0
    choices = _choices(shape, jobs, passes, workers, blocks, activations, disk_bytes, keeps=keeps)
    training = StagePlan(
        stage="bld",
        name=name,
        devices=devices,
        parts=fullest.training(blocks),
        seconds=time.training_s,
        host_bytes=host,
        scratch_bytes=activations if keeps else max(map(_state_bytes, passes)),
        choices=tuple(choices),
    )
    return BldPlan(passes, workers, keeps, calibration, training)


def bld_stages(
    name: str, shape: Shape, jobs: Sequence[BldJob], device: Device, *, disk_bytes: int
) -> list[StagePlan]:
    """Return the plans of calibration and training; one that does not fit, if a single piece exceeds a device."""
    if not jobs:
        return []
    plan = bld_plan_of(name, shape, jobs, device, disk_bytes=disk_bytes)
    if plan is not None:
        return [plan.calibration, plan.training]
    worker = max(
        (worker for job in jobs for worker in workers_of(shape, [job], device)),
        key=lambda worker: worker.least_bytes if worker.jobs else worker.parent_bytes,
    )
    parts = worker.training(1) if worker.jobs else {"parent": worker.parent_bytes}
    why = f"a worker needs {size_text(sum(parts.values()))} for one piece of one layer"
    return [
        StagePlan(
            "bld", name, parts, 0.0, devices=device.count, choices=(Choice("none", "does not fit", why),)
        )
    ]


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


def _choices(
    shape: Shape,
    jobs: Sequence[BldJob],
    passes: Sequence[Sequence[BldJob]],
    workers: Sequence[Sequence[WorkerPlan]],
    blocks: int,
    activations: int,
    disk_bytes: int,
    *,
    keeps: bool,
) -> list[Choice]:
    device, batch = workers[0][0].device, jobs[0].batch
    disk = f"{size_text(activations)} of activations, {size_text(disk_bytes)} of disk"
    found = [
        Choice(
            "activations",
            "kept on the disk" if keeps else "not kept: batches stream through all layers",
            disk,
        )
    ]
    if device.count > 1:
        layers = max(worker.end - worker.first for worker in workers[-1])
        found.append(
            Choice(
                "workers",
                f"{max(map(len, workers))} spans of layers",
                f"up to {layers} layers of about equal work",
            )
        )
    if blocks < batch:
        whole = max(
            sum(worker.training(batch).values()) for of_pass in workers for worker in of_pass if worker.jobs
        )
        found.append(
            Choice(
                "micro-batch", f"{blocks} of {batch} sequences", f"the whole batch takes {size_text(whole)}"
            )
        )
    if len(passes) > 1:
        busy = [worker for worker in workers_of(shape, jobs, device) if worker.jobs]
        needed = max(worker.least_bytes for worker in busy)
        what = "sweeps" if keeps else "passes"
        named = ", ".join(_span(part) for part in passes)
        found.append(
            Choice(what, f"{len(passes)} (layers {named})", f"all pieces together take {size_text(needed)}")
        )
    return found


def _span(jobs: Sequence[BldJob]) -> str:
    layers = [job.layer for job in jobs]
    return f"{min(layers)}-{max(layers)}"


class _Time:
    """Seconds of a BLD, of the busiest worker of each pass."""

    def __init__(
        self,
        shape: Shape,
        jobs: Sequence[BldJob],
        device: Device,
        passes: Sequence[Sequence[BldJob]],
        workers: Sequence[Sequence[WorkerPlan]],
    ) -> None:
        flop = StageOneFlop(shape, jobs)
        tokens, calibration = jobs[0].tokens, jobs[0].calibration_tokens
        steps = max(1, tokens // (jobs[0].context * jobs[0].batch)) if tokens else 0
        rate, rate32 = device.flop_per_s, device.float32_flop_per_s
        self.calibration_s = self.training_s = 0.0
        for part, of_pass in zip(passes, workers, strict=True):
            own = StageOneFlop(shape, part)
            alone = len(of_pass) == 1 or device.count == 1
            layers = range(1 + max(job.layer for job in part))
            spans = [[*layers]] if alone else [range(worker.first, worker.end) for worker in of_pass]
            trained = {job.layer for job in part}
            self.calibration_s += calibration * sum(flop.parent[i] for i in layers) / rate
            fits = sum(calibration * flop.grams[i] + own.refined[i] for i in trained)
            self.calibration_s += (
                fits / rate32 + sum(own.solved[i] for i in trained) / device.double_flop_per_s
            )
            self.calibration_s += sum(own.moved[i] for i in trained) / device.bandwidth_bytes_per_s
            seen = seen_tokens(jobs[0])
            self.training_s += (
                max(
                    sum(
                        seen * flop.parent[i] + tokens * own.trained[i] + (seen - tokens) * own.evaluated[i]
                        for i in span
                    )
                    for span in spans
                )
                / rate
            )
            weights = max(sum(weights_of(job) for job in part if job.layer in span) for span in spans)
            self.training_s += steps * OPTIMISER_BYTES * weights / device.bandwidth_bytes_per_s
