"""Dry run of `pzl run`: the tasks it would execute, with their states, estimates and memory plans, as text and JSON."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from puzzledsl.base.phrases import aligned
from puzzledsl.base.units import BYTES, format_quantity
from puzzledsl.pipeline.context import Context
from puzzledsl.pipeline.planning.estimate import LIBRARIES_S, Estimate, Estimator
from puzzledsl.pipeline.planning.status import TaskStatus, statuses
from puzzledsl.pipeline.run_all import is_wanted
from puzzledsl.plan.memory.device import Device
from puzzledsl.plan.memory.stage_plan import StagePlan


@dataclass(frozen=True, slots=True)
class Step:
    """A task to execute, with its estimated time and disk space, and the memory plans of its parts."""

    status: TaskStatus
    estimate: Estimate
    plans: Sequence[StagePlan] = ()


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
        return sum(step.estimate.seconds for step in self.steps) + self.loading_s

    @property
    def peak_bytes(self) -> int:
        """Most memory of any step."""
        return max((step.estimate.peak_bytes for step in self.steps), default=0)

    @property
    def written_bytes(self) -> int:
        """Estimated size of all steps' outputs."""
        return sum(step.estimate.written_bytes for step in self.steps)

    @property
    def scratch_bytes(self) -> int:
        """Largest temporary disk space of any step."""
        return max((step.estimate.scratch_bytes for step in self.steps), default=0)

    @property
    def fits(self) -> bool:
        """True if the outputs and the temporary files fit on the disk."""
        return self.written_bytes + self.scratch_bytes <= self.free_bytes

    def as_json(self) -> dict[str, object]:
        """Return the tasks as a JSON object."""
        return {
            "steps": [
                {
                    **status_json(step.status),
                    "seconds": round(step.estimate.seconds, 1),
                    "from_log": step.estimate.from_log,
                    "bytes": step.estimate.written_bytes,
                    "scratch_bytes": step.estimate.scratch_bytes,
                    "peak_bytes": step.estimate.peak_bytes,
                    **({"runs": step.estimate.runs} if step.estimate.runs else {}),
                    **({"memory": [self._plan_json(plan) for plan in step.plans]} if step.plans else {}),
                }
                for step in self.steps
            ],
            "done": self.done,
            "seconds": round(self.seconds, 1),
            "bytes": self.written_bytes,
            "scratch_bytes": self.scratch_bytes,
            "peak_bytes": self.peak_bytes,
            "free_bytes": self.free_bytes,
            "device": {
                "name": self.device.name,
                "count": self.device.count,
                "memory_bytes": self.device.memory_bytes,
                "usable_bytes": self.device.usable_bytes,
                "host_bytes": self.device.host_bytes,
                "dtype": self.device.dtype,
            },
        }

    def _plan_json(self, plan: StagePlan) -> dict[str, object]:
        return {"stage": plan.stage, **plan.as_json(), "fits": plan.fits(self.device)}

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
                (
                    _title(step),
                    duration(step.estimate.seconds) if not step.estimate.from_log else _like_before(step),
                    size(step.estimate.peak_bytes),
                    size(step.estimate.written_bytes),
                    step.status.why,
                )
                for step in self.steps
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


def _title(step: Step) -> str:
    """Return a task's title; for a score, with the number of layer runs it scores."""
    runs = step.estimate.runs
    return f"{step.status.task.title} (with {runs} runs of layers)" if runs else step.status.task.title


def _like_before(step: Step) -> str:
    return f"{duration(step.estimate.seconds)} (as before)"


def dry_run(ctx: Context, until: str | None, only: str | None, device: Device | None = None) -> DryRun:
    """Return what `pzl run` does with these options, on this machine or on a device. Changes nothing."""
    wanted = [s for s in statuses(ctx) if is_wanted(s.task.stage, until, only)]
    todo = [status for status in wanted if status.word != "done"]
    free = shutil.disk_usage(_existing(ctx.build.root)).free
    estimator = Estimator(ctx, device)
    steps = []
    for status in todo:
        plans = status.task.plans(estimator.device, free)
        steps.append(Step(status, estimator.of(status.task, plans), plans))
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


def memory_lines(device: Device, plans: Sequence[StagePlan]) -> Iterator[str]:
    """Yield the table of memory plans: each stage's bytes on one device and beside it, hours, and what was chosen."""
    count = f"{device.count} x {device.name}" if device.count > 1 else device.name
    beside = f", {size(device.host_bytes)} of host memory beside each" if device.is_gpu else ""
    yield f"memory on {count}: {size(device.usable_bytes)} usable of {size(device.memory_bytes)}{beside}; {device.dtype}"
    rows: list[tuple[str, ...]] = []
    for plan in plans:
        fits = "" if plan.fits(device) else " (too much)"
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


def duration(seconds: float) -> str:
    """Format a duration to about two digits: `8 s`, `12 min`, `3.5 h`, `4 days`."""
    if seconds < 1:
        return "< 1 s"
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 100 * 60:
        return f"{seconds / 60:.0f} min"
    hours = seconds / 3600
    return f"{hours:.1f} h" if hours < 48 else f"{hours / 24:.0f} days"
