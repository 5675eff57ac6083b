"""Dry run of `pzl run`: the tasks it would execute, with their states, estimates and memory plans, as text and JSON.

Arithmetic, memory traffic and calls become time by this machine's speeds: a probe's, corrected by the time that finished tasks
in the build directory's log took. A task that this build directory has finished before is estimated by its previous time.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import Any

from puzzledsl.base.phrases import aligned, duration
from puzzledsl.base.units import BYTES, format_quantity
from puzzledsl.ir import nodes
from puzzledsl.pipeline.context import Context
from puzzledsl.pipeline.estimates import Work
from puzzledsl.pipeline.execute import is_wanted
from puzzledsl.pipeline.planning.status import TaskStatus, statuses
from puzzledsl.pipeline.task import Key, Task
from puzzledsl.pipeline.tasks import TASKS
from puzzledsl.plan.memory.stage_plan import Device, StagePlan

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
DEVICE = ("name", "count", "memory_bytes", "usable_bytes", "host_bytes", "dtype")
"""Facts of the device that JSON has."""


@dataclass(frozen=True, slots=True)
class Step:
    """A task to execute, with its estimate and the memory plans of its parts.

    `peak_bytes`: most memory of the process, or of each device where those are GPUs. `scratch_bytes` are gone when it ends.
    `from_log`: the log says so: it took this long before, or `done` of its units are done, and the others take this long.
    `runs`: runs of consecutive layers that a score measures.
    """

    task: Task
    seconds: float
    written_bytes: int
    scratch_bytes: int
    from_log: bool
    runs: int
    peak_bytes: int
    done: str
    plans: Sequence[StagePlan]
    status: TaskStatus | None = None

    @property
    def title(self) -> str:
        """The task's title; for a score, with the number of layer runs it scores."""
        return f"{self.task.title} (with {self.runs} runs of layers)" if self.runs else self.task.title

    @property
    def time(self) -> str:
        """The time as text, and where it is from."""
        source = f" ({self.done} are done)" if self.done else " (as before)" if self.from_log else ""
        return duration(self.seconds) + source

    def as_json(self, device: Device) -> dict[str, object]:
        """Return the step as a JSON object."""
        assert self.status is not None
        plans = [{"stage": p.stage, **p.as_json(), "fits": p.fits(device)} for p in self.plans]
        return {
            **status_json(self.status),
            "seconds": round(self.seconds, 1),
            "from_log": self.from_log,
            "bytes": self.written_bytes,
            "scratch_bytes": self.scratch_bytes,
            "peak_bytes": self.peak_bytes,
            **({"runs": self.runs} if self.runs else {}),
            **({"memory": plans} if plans else {}),
        }


@dataclass(frozen=True, slots=True)
class _Begun:
    """The last bar that the log has of a task that did not end: its units, and the seconds that the others would have taken."""

    done: int
    total: int
    seconds_left: float


class Estimator:
    """Estimates for one program: on this machine, or on a device that is not here."""

    def __init__(self, ctx: Context, elsewhere: Device | None = None) -> None:
        self.ctx, self._elsewhere = ctx, elsewhere
        self._took, self._begun = _durations(ctx.build.log) if elsewhere is None else ({}, {})

    def of(self, task: Task, plans: Sequence[StagePlan] = (), status: TaskStatus | None = None) -> Step:
        """Return the estimate of one task; on a device that is not here its time is that of its memory plans."""
        work = task.work()
        planned = [plan.scratch_bytes for plan in plans if plan.scratch_bytes is not None]
        took, begun = self._took.get(task.key), self._begun.get(task.key)
        if begun is not None:
            seconds = begun.seconds_left
        elif took is not None:
            seconds = took
        elif self._elsewhere is not None and plans:
            seconds = sum(plan.seconds for plan in plans)
        else:
            seconds = _seconds(work, plans, self.device)
        return Step(
            task=task,
            seconds=seconds,
            written_bytes=work.written_bytes,
            scratch_bytes=max(planned, default=work.scratch_bytes),
            from_log=took is not None or begun is not None,
            runs=work.runs,
            peak_bytes=self._peak_bytes(plans),
            done="" if begun is None else f"{begun.done} of {begun.total}",
            plans=plans,
            status=status,
        )

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
        """This machine's device, at the speeds of a probe. A CPU has its whole memory: other programs come and go."""
        from puzzledsl.measure.stopwatch import rates_of
        from puzzledsl.models.machine import whole_bytes
        from puzzledsl.models.placement import this_device

        here, rates = this_device(*self._placement), rates_of(*self._placement)
        if not here.is_gpu:
            here = replace(here, memory_bytes=whole_bytes(), host_bytes=whole_bytes())
        return replace(
            here,
            flop_per_s=SHARE_OF_PEAK * rates.flop_per_s,
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
    rates = (field.name for field in fields(device) if field.name.endswith("_per_s"))
    return replace(device, **{name: getattr(device, name) / times for name in rates})


def stored_bytes(folder: Path) -> int:
    """Return the size of a checkpoint's weights; 0 without one."""
    return sum(path.stat().st_size for path in folder.glob("*.safetensors"))


def _durations(log: Path) -> tuple[dict[Key, float], dict[Key, _Begun]]:
    """Return the seconds of the last finished run of each task, and what is done of those that were begun after it."""
    took, begun = dict[Key, float](), dict[Key, _Begun]()
    try:
        lines = log.read_text("utf-8", "replace").splitlines()
    except OSError:
        return took, begun
    for line in lines:
        try:
            event = json.loads(line)
            if event["event"] == "end":
                key = event["stage"], event["name"]
                took[key] = float(event["seconds"])
                begun.pop(key, None)
            elif event["event"] == "progress":
                units = _Begun(int(event["done"]), int(event["total"]), float(event["seconds_left"]))
                begun[event["stage"], event["name"]] = units
        except (ValueError, KeyError, TypeError):
            continue  # a torn or damaged line of a log is no line
    return took, begun


@dataclass(frozen=True, slots=True)
class DryRun:
    """The tasks of a run, the free disk space, and the device that memory is planned for."""

    steps: tuple[Step, ...]
    done: int
    free_bytes: int
    device: Device
    loading_s: float = 0.0
    """Seconds to import libraries, once."""

    @property
    def seconds(self) -> float:
        """Estimated time of all steps."""
        return sum(step.seconds for step in self.steps) + self.loading_s

    @property
    def peak_bytes(self) -> int:
        """Most memory of any step."""
        return max((step.peak_bytes for step in self.steps), default=0)

    @property
    def written_bytes(self) -> int:
        """Estimated size of all steps' outputs."""
        return sum(step.written_bytes for step in self.steps)

    @property
    def scratch_bytes(self) -> int:
        """Largest temporary disk space of any step."""
        return max((step.scratch_bytes for step in self.steps), default=0)

    @property
    def fits(self) -> bool:
        """True if the outputs and the temporary files fit on the disk."""
        return self.written_bytes + self.scratch_bytes <= self.free_bytes

    def as_json(self) -> dict[str, object]:
        """Return the tasks as a JSON object."""
        return {
            "steps": [step.as_json(self.device) for step in self.steps],
            "done": self.done,
            "seconds": round(self.seconds, 1),
            "bytes": self.written_bytes,
            "scratch_bytes": self.scratch_bytes,
            "peak_bytes": self.peak_bytes,
            "free_bytes": self.free_bytes,
            "device": {name: getattr(self.device, name) for name in DEVICE},
        }

    def as_text(self) -> str:
        """Return the tasks as text."""
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        if not self.steps:
            yield f"nothing to do: all {self.done} tasks are done"
            return
        yield from table(
            ("task", "time", "memory", "disk", "why"),
            [
                (step.title, step.time, size(step.peak_bytes), size(step.written_bytes), step.status.why)
                for step in self.steps
                if step.status is not None
            ],
        )
        yield ""
        if plans := [plan for step in self.steps for plan in step.plans]:
            yield from memory_lines(self.device, plans)
            yield ""
        many = f"{len(self.steps)} task{'s' * (len(self.steps) > 1)} to do, {self.done} done"
        room = f"{size(self.written_bytes) or '0B'} to write"
        if self.scratch_bytes:
            room += f" and up to {size(self.scratch_bytes)} for a while"
        memory = f", up to {size(self.peak_bytes)} of memory" if self.peak_bytes else ""
        yield f"{many}: about {duration(self.seconds)}{memory}, {room}; {size(self.free_bytes)} free"
        if not self.fits:
            yield "the disk has not enough room: free some, or give another directory with `-o`"


def dry_run(ctx: Context, until: str | None, only: str | None, device: Device | None = None) -> DryRun:
    """Return what `pzl run` does with these options, on this machine or on a device. Changes nothing."""
    wanted = [s for s in statuses(ctx) if is_wanted(s.task.stage, until, only)]
    todo = [status for status in wanted if status.word != "done"]
    free = shutil.disk_usage(_existing(ctx.build.root)).free
    estimator = Estimator(ctx, device)
    steps = []
    for status in todo:
        plans = status.task.plans(estimator.device, free)
        steps.append(estimator.of(status.task, plans, status))
    loading_s = LIBRARIES_S if device is None and any(step.plans for step in steps) else 0.0
    return DryRun(tuple(steps), len(wanted) - len(steps), free, estimator.device, loading_s)


def _existing(path: Path) -> Path:
    return path if path.exists() else _existing(path.parent)


def status_json(status: TaskStatus) -> dict[str, object]:
    """Return one task as a JSON object."""
    task = status.task
    return {"stage": task.stage, "name": task.name, "state": status.word, "why": status.why}


def table(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    """Yield rows of columns, all to the left."""
    return aligned([header, *rows], "<" * len(header))


_ANYWAY = {
    "bld": "its pieces are made in more passes",
    "uptrain": "it does not begin, and says what would do",
}
_TRIED = "it is tried all the same, and what is finished is kept"
"""Stage -> the way it goes on where its plan has no room."""


def memory_lines(device: Device, plans: Sequence[StagePlan]) -> Iterator[str]:
    """Yield the table of memory plans: each stage's bytes on one device and beside it, hours, and what was chosen."""
    count = f"{device.count} x {device.name}" if device.count > 1 else device.name
    beside = f", {size(device.host_bytes)} of host memory beside each" if device.is_gpu else ""
    yield f"memory on {count}: {size(device.usable_bytes)} usable of {size(device.memory_bytes)}{beside}; {device.dtype}"
    rows: list[tuple[str, ...]] = []
    for plan in plans:
        fits = "" if plan.fits(device) else f" (too much: {_ANYWAY.get(plan.stage, _TRIED)})"
        chosen = [f"{c.what}: {c.value} ({c.why})" for c in plan.choices] or [""]
        on = f" x {plan.devices}" if plan.devices > 1 else ""
        own = (
            f"{plan.stage} {plan.name}".strip(),
            f"{size(plan.peak_bytes)}{on}{fits}",
            size(plan.host_bytes),
        )
        rows.append((*own, duration(plan.seconds) if plan.seconds else "", chosen[0]))
        rows += [("", "", "", "", more) for more in chosen[1:]]
    yield from table(("stage", "device", "host", "time", "chosen, and why"), rows)


def size(count: int) -> str:
    """Format bytes for reading; empty for a negligible amount."""
    return format_quantity(Fraction(count), BYTES) if count >= 1 << 16 else ""
