"""Estimates of a task's time and bytes before it runs, for `pzl run --dry-run`.

A task's FLOP become time by this machine's speed: the speed of finished tasks in the build directory's log, or else of
a matrix product. A task that this build directory has finished before is estimated by its previous time.
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
from puzzledsl.pipeline.task import Task
from puzzledsl.pipeline.tasks import TASKS
from puzzledsl.plan.memory.device import FLOAT32_SHARE, Device
from puzzledsl.plan.memory.stage_plan import StagePlan

SECOND_TO_WARM_UP = 2.0  # to load a model
SHARE_OF_PEAK = 0.6  # of a matrix product's speed that a whole stage reaches
BANDWIDTH_BYTES_PER_S = {"cpu": 1e10, "cuda": 1e12}
"""Speed of this machine's memory, for the optimiser's small share of the time."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """Estimate of one task.

    `scratch_bytes` are gone when it ends. `from_log`: it took this long before. `runs`: runs of consecutive layers that
    a score measures.
    """

    seconds: float
    written_bytes: int
    scratch_bytes: int = 0
    from_log: bool = False
    runs: int = 0


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
        if (took := self._took.get(task.key)) is not None:
            return Estimate(took, *sizes, from_log=True, runs=work.runs)
        if self._elsewhere is not None and plans:
            return Estimate(sum(plan.seconds for plan in plans), *sizes, runs=work.runs)
        seconds = SECOND_TO_WARM_UP + work.flop / self.flop_per_s if work.flop else 0.1
        return Estimate(seconds, *sizes, runs=work.runs)

    @cached_property
    def device(self) -> Device:
        """The device that memory is planned for."""
        if self._elsewhere is not None:
            return self._elsewhere
        from puzzledsl.models.this_device import this_device

        here = this_device(*self._placement)
        slower = float(FLOAT32_SHARE) if here.is_gpu else 1.0
        rate = self.flop_per_s
        bandwidth = BANDWIDTH_BYTES_PER_S["cuda" if here.is_gpu else "cpu"]
        return replace(
            here,
            flop_per_s=rate,
            float32_flop_per_s=rate * slower,
            bandwidth_bytes_per_s=bandwidth,
        )

    @cached_property
    def flop_per_s(self) -> float:
        """Speed that a stage reaches on the device, in the dtype that parents run in there."""
        if self._elsewhere is not None:
            return self._elsewhere.flop_per_s
        program = self.ctx.program
        known = [
            kind(self.ctx, name)
            for kind in TASKS.values()
            if kind.sets_pace
            for name in kind.declared(program)
        ]
        reached = [
            task.work().flop / max(took - SECOND_TO_WARM_UP, 0.5)
            for task in known
            if (took := self._took.get(task.key))
        ]
        return median(reached) if reached else SHARE_OF_PEAK * self._peak()

    def _peak(self) -> float:
        from puzzledsl.measure.probe import matrix_product_flop_per_s

        return matrix_product_flop_per_s(*self._placement)

    @cached_property
    def _placement(self) -> tuple[Any, Any]:
        """Torch's device and dtype of the program's largest parent."""
        from puzzledsl.models.placement import placement

        sources = (parent.source for parent in self.ctx.program.parents.values())
        folders = [self.ctx.base / source.id for source in sources if isinstance(source, nodes.HfSource)]
        return placement(max(folders, key=stored_bytes, default=self.ctx.base))


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
