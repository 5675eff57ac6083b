"""Plan of one BLD declaration: the memory of its fullest worker, and the time of the busiest one of each pass.

Time is that of the parent, of pieces, of Gram matrices and of least squares (`plan.flop`), and of the optimiser at the memory's
bandwidth.
"""

from __future__ import annotations

from collections.abc import Sequence

from puzzledsl.ir.nodes import Shape
from puzzledsl.ir.tables import BldJob
from puzzledsl.plan.flop import work_by_layer
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


def bld_stages(
    name: str, shape: Shape, jobs: Sequence[BldJob], device: Device, *, disk_bytes: int
) -> list[StagePlan]:
    """Return the plan; one that does not fit, if a single piece exceeds a device.

    `disk_bytes`: free space for the activations of all tokens, which one process keeps if they fit.
    """
    if not jobs:
        return []
    activations = 2 * jobs[0].tokens * shape.hidden * device.number_bytes  # all tokens' states at two layers
    keeps = device.count == 1 and activations <= disk_bytes
    parts = sweeps_of(shape, jobs, device) if keeps else passes_of(shape, jobs, device)
    if parts is None:
        return [_too_much(name, shape, jobs, device)]
    workers = [_swept(shape, part, device) if keeps else workers_of(shape, part, device) for part in parts]
    every = [worker for of_pass in workers for worker in of_pass if worker.jobs]
    blocks, devices = min(worker.micro_blocks for worker in every), max(map(len, workers))
    held = (bytes_of for worker in every for bytes_of in (worker.calibration, worker.training(blocks)))
    first = jobs[0]
    steps = max(1, first.tokens // (first.context * first.batch)) if first.tokens else 0
    seconds = sum(map(_busiest, (work_by_layer(shape, part) for part in parts), workers)) / device.flop_per_s
    moved = steps * OPTIMISER_BYTES * sum(map(weights_of, jobs))
    seconds += moved / device.bandwidth_bytes_per_s / device.count
    kept = "kept on the disk" if keeps else "not kept: batches stream through all layers"
    disk = f"{size_text(activations)} of activations, {size_text(disk_bytes)} of disk"
    choices = [Choice("activations", kept, disk)]
    if device.count > 1:
        layers = max(worker.end - worker.first for worker in workers[-1])
        why = f"up to {layers} layers of about equal work"
        choices.append(Choice("workers", f"{devices} spans of layers", why))
    if blocks < first.batch:
        why = f"the whole batch takes {size_text(max(sum(w.training(first.batch).values()) for w in every))}"
        choices.append(Choice("micro-batch", f"{blocks} of {first.batch} sequences", why))
    if len(parts) > 1:
        busy = [worker for worker in workers_of(shape, jobs, device) if worker.jobs]
        why = f"all pieces together take {size_text(max(worker.least_bytes for worker in busy))}"
        named = f"{len(parts)} (layers {', '.join(f'{part[0].layer}-{part[-1].layer}' for part in parts)})"
        choices.append(Choice("sweeps" if keeps else "passes", named, why))
    most = max(sum(map(weights_of, part)) for part in parts)
    plan = StagePlan(
        stage="bld",
        name=name,
        devices=1 if keeps else devices,
        parts=max(held, key=lambda each: sum(each.values())),
        seconds=seconds,
        host_bytes=max(worker.host_bytes for worker in every) if device.is_gpu else 0,
        # two states, while one is written, with the best weights; and the initial weights
        scratch_bytes=activations if keeps else (2 * (WEIGHT + MOMENTS + KEPT // 2) + WEIGHT) * most,
        choices=tuple(choices),
    )
    return [plan]


def _busiest(work: Sequence[float], workers: Sequence[WorkerPlan]) -> float:
    """Return the work of the worker with the most, of a pass whose layers have so much; of one device alone, all of it."""
    if workers[0].device.count == 1:
        return sum(work)
    return max(sum(work[worker.first : worker.end]) for worker in workers)


def _too_much(name: str, shape: Shape, jobs: Sequence[BldJob], device: Device) -> StagePlan:
    worker = max(
        (worker for job in jobs for worker in workers_of(shape, [job], device)),
        key=lambda worker: worker.least_bytes if worker.jobs else worker.parent_bytes,
    )
    parts = worker.training(1) if worker.jobs else {"parent": worker.parent_bytes}
    why = f"a worker needs {size_text(sum(parts.values()))} for one piece of one layer"
    choice = Choice("none", "does not fit", why)
    return StagePlan("bld", name, parts, 0.0, devices=device.count, choices=(choice,))


def _swept(shape: Shape, jobs: Sequence[BldJob], device: Device) -> list[WorkerPlan]:
    """Return the worker at each layer of a sweep, which holds the whole parent and the pieces of one layer."""
    return [
        WorkerPlan(shape, [job for job in jobs if job.layer == i], i, i + 1, device, whole=True)
        for i in sorted({job.layer for job in jobs})
    ]
