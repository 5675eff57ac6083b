"""Estimates of a task's time and bytes before it runs, for `pzl run --dry-run`.

A task's FLOP become time by this machine's speed: the speed of finished tasks in the build directory's log, or else of
a matrix product. A task that this build directory has finished before is estimated by its previous time.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import median

from puzzledsl.pipeline.context import Context
from puzzledsl.pipeline.task import Task
from puzzledsl.pipeline.tasks import TASKS

SECOND_TO_WARM_UP = 2.0  # to load a model
SHARE_OF_PEAK = 0.6  # of a matrix product's speed that a whole stage reaches


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
    """Estimates for one program on this machine."""

    def __init__(self, ctx: Context) -> None:
        self.ctx = ctx
        self._took = _durations(ctx.build.log)

    def of(self, task: Task) -> Estimate:
        """Return the estimate of one task."""
        work = task.work()
        sizes = work.written_bytes, work.scratch_bytes
        if (took := self._took.get(task.key)) is not None:
            return Estimate(took, *sizes, from_log=True, runs=work.runs)
        seconds = SECOND_TO_WARM_UP + work.flop / self.flop_per_s if work.flop else 0.1
        return Estimate(seconds, *sizes, runs=work.runs)

    @cached_property
    def flop_per_s(self) -> float:
        """Speed that a stage reaches on this machine."""
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
        from puzzledsl.models.placement import placement

        return matrix_product_flop_per_s(*placement(self.ctx.base))


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
