"""Estimates of a task's time and bytes before it runs, for `pzl run --dry-run`.

Arithmetic, memory traffic and calls become time by this machine's speeds: a probe's (`measure.probe`), corrected by the time
that finished tasks in the build directory's log took. A task that this build directory has finished before is estimated by
its previous time.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import Any

from puzzledsl.ir import nodes
from puzzledsl.pipeline.context import Context
from puzzledsl.pipeline.task import Task, Work
from puzzledsl.pipeline.tasks import TASKS
from puzzledsl.plan.memory.device import FLOAT32_SHARE, Device
from puzzledsl.plan.memory.stage_plan import StagePlan

SECOND_TO_WARM_UP = 0.5
"""To load a model, and whatever else a task does once."""
LIBRARIES_S = 3.5
"""To import torch and transformers, once in a run."""
LIBRARIES_BYTES = 430 << 20
"""Memory of a process that has loaded torch and transformers."""
LAYER_S = 0.4e-3
"""Overhead of one layer's forward pass, in Python and in calls of operators."""
SHARE_OF_PEAK = 0.8
"""Share of the speed of a large matrix product that a stage's products reach."""
BANDWIDTH_BYTES_PER_S = 1e12
"""Speed of a GPU's memory."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """Estimate of one task.

    `peak_bytes`: most memory of the process, or of each device where those are GPUs. `scratch_bytes` are gone when it ends.
    `from_log`: it took this long before. `runs`: runs of consecutive layers that a score measures.
    """

    seconds: float
    written_bytes: int
    scratch_bytes: int = 0
    from_log: bool = False
    runs: int = 0
    peak_bytes: int = 0


class Estimator:
    """Estimates for one program: on this machine, or on a device that is not here."""

    def __init__(self, ctx: Context, elsewhere: Device | None = None) -> None:
        self.ctx, self._elsewhere = ctx, elsewhere
        self._took = _durations(ctx.build.log) if elsewhere is None else {}

    def of(self, task: Task, plans: Sequence[StagePlan] = ()) -> Estimate:
        """Return the estimate of one task; on a device that is not here its time is that of its memory plans."""
        work = task.work()
        planned = [plan.scratch_bytes for plan in plans if plan.scratch_bytes is not None]
        sizes = work.written_bytes, max(planned, default=work.scratch_bytes)
        took = self._took.get(task.key)
        if took is not None:
            seconds = took
        elif self._elsewhere is not None and plans:
            seconds = sum(plan.seconds for plan in plans)
        else:
            seconds = _seconds(work, plans, self.device)
        return Estimate(seconds, *sizes, took is not None, work.runs, self._peak_bytes(plans))

    def _peak_bytes(self, plans: Sequence[StagePlan]) -> int:
        """Return the most bytes of a task's parts; on a CPU with the process's own."""
        if not plans:
            return 0
        if self.device.is_gpu:
            return max(plan.peak_bytes for plan in plans)
        return LIBRARIES_BYTES + max(max(plan.peak_bytes, plan.host_bytes) for plan in plans)

    @cached_property
    def device(self) -> Device:
        """The device that memory is planned for, at the speed that finished tasks of the log reached on it."""
        if self._elsewhere is not None:
            return self._elsewhere
        return _slower(self._probed, self._slowness)

    @cached_property
    def _slowness(self) -> float:
        """Median of what finished tasks took over their estimates; 1 without any."""
        program = self.ctx.program
        known = [
            kind(self.ctx, name)
            for kind in TASKS.values()
            if kind.sets_pace
            for name in kind.declared(program)
        ]
        ratios = [
            took / _seconds(task.work(), task.plans(self._probed, self._probed.memory_bytes), self._probed)
            for task in known
            if (took := self._took.get(task.key))
        ]
        return median(ratios) if ratios else 1.0

    @cached_property
    def _probed(self) -> Device:
        """This machine's device, at the speeds of a probe."""
        from puzzledsl.measure.probe import rates_of
        from puzzledsl.models.this_device import this_device

        here, rates = this_device(*self._placement), rates_of(*self._placement)
        rate = SHARE_OF_PEAK * rates.flop_per_s
        return replace(
            here,
            flop_per_s=rate,
            float32_flop_per_s=rate * float(FLOAT32_SHARE) if here.is_gpu else rate,
            float64_flop_per_s=SHARE_OF_PEAK * rates.float64_flop_per_s,
            bandwidth_bytes_per_s=BANDWIDTH_BYTES_PER_S if here.is_gpu else rates.bytes_per_s,
        )

    @cached_property
    def _placement(self) -> tuple[Any, Any]:
        """Torch's device and dtype of the program's largest parent."""
        from puzzledsl.models.placement import placement

        sources = (parent.source for parent in self.ctx.program.parents.values())
        folders = [self.ctx.base / source.id for source in sources if isinstance(source, nodes.HfSource)]
        return placement(max(folders, key=stored_bytes, default=self.ctx.base))


def _seconds(work: Work, plans: Sequence[StagePlan], device: Device) -> float:
    """Return the seconds of a task: of its plans, or of its products where it has none, and of what else it does."""
    products = sum(plan.seconds for plan in plans) or work.flop / device.flop_per_s
    if not products:
        return 0.1
    traffic = work.moved_bytes / device.bandwidth_bytes_per_s
    return SECOND_TO_WARM_UP + products + traffic + LAYER_S * work.layer_calls


def _slower(device: Device, times: float) -> Device:
    return replace(
        device,
        flop_per_s=device.flop_per_s / times,
        float32_flop_per_s=device.float32_flop_per_s / times,
        float64_flop_per_s=device.float64_flop_per_s / times,
        bandwidth_bytes_per_s=device.bandwidth_bytes_per_s / times,
    )


def stored_bytes(folder: Path) -> int:
    """Return the size of a checkpoint's weights; 0 without one."""
    return sum(path.stat().st_size for path in folder.glob("*.safetensors"))


def _durations(log: Path) -> dict[tuple[str, str], float]:
    """Return the seconds of the last finished run of each task."""
    found: dict[tuple[str, str], float] = {}
    try:
        lines = log.read_text("utf-8", "replace").splitlines()
    except OSError:
        return found
    for line in lines:
        try:
            event = json.loads(line)
            if event["event"] == "end":
                found[event["stage"], event["name"]] = float(event["seconds"])
        except (ValueError, KeyError, TypeError):
            continue  # a torn or damaged line of a log is no line
    return found
