"""`pzl status`: the state of every task, with the reason if it is not done. Reads only.

Dry run of `pzl run`: the tasks it would execute, with their states, estimates and memory plans, as text and JSON.

The time of arithmetic, memory traffic and calls is estimated from this machine's speeds: a probe measures them, and the logged
times of finished tasks correct them. A task that this build directory has finished before is estimated by its previous time.
"""

import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import Literal

from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.base.phrases import aligned, duration
from puzzledsl.base.units import BYTES, format_quantity
from puzzledsl.ir import nodes
from puzzledsl.language.kinds import KINDS
from puzzledsl.pipeline.context import Context, Key, failure_of
from puzzledsl.pipeline.estimates import Work
from puzzledsl.pipeline.execute import is_wanted, tasks_of
from puzzledsl.pipeline.task import Task
from puzzledsl.pipeline.tasks import TASKS
from puzzledsl.plan.memory.stage_plan import Device, StagePlan

MEANINGS = {
    **dict.fromkeys(KINDS, "the declaration"),
    "data": "the text",
    "dtype": "the dtype of tasks",
    "engine": "the engine's build",
    "full": "the children in full",
    "healing": "how children are healed",
    "jobs": "the list of pieces",
    "layers": "the solution",
    "models": "the children",
    "parent": "the parent's weights",
    "quality": "what was measured of the child",
    "refine": "how children are measured",
    "scoring": "what scoring measures",
    "source": "the program's text",
    "tasks": "the questions",
    "unfinished": "a part that failed",
}
MEANINGS |= {
    name: f"the {name}"
    for name in "alternatives child costs judges pieces processor prompts scenarios scores space threads".split()
}
"""Names of inputs in stamps, in words."""


Word = Literal["done", "missing", "stale", "blocked", "failed"]


@dataclass(frozen=True, slots=True)
class TaskStatus:
    """One task, its state in a word, and the reason for a state other than `done`.

    `missing`: never finished; `stale`: inputs or files have changed, or a task before it is not done; `failed`: it failed
    when last tried; `blocked`: its state is unknown, because something outside the build directory cannot be read.
    """

    task: Task
    word: Word
    why: str


def _listed(words: Sequence[str]) -> str:
    shown = list(dict.fromkeys(words))
    return ", ".join(shown[:3]) + (f" and {len(shown) - 3} more" if len(shown) > 3 else "")


def statuses(ctx: Context) -> Iterator[TaskStatus]:
    """Yield every task of `pzl run` with its state, in order."""
    undone: list[Key] = []
    _, begun = _durations(ctx.build.log)
    for task in tasks_of(ctx):
        word, why = _state(ctx, task, undone)
        if word == "missing" and task.key in begun:
            why = f"not finished: {begun[task.key][1]}"
        if word != "done":
            undone.append(task.key)
            failure = failure_of(ctx.build, task.stage, task.name)
            word, why = (word, why) if failure is None else ("failed", failure.reason)
        yield TaskStatus(task, word, why)


def _state(ctx: Context, task: Task, undone: Sequence[Key]) -> tuple[Word, str]:
    stamp = ctx.stamps.read(task.stage, task.name)
    if stamp is None:
        return "missing", "not made yet"
    if first := task.follows(undone):  # if that task leaves the same files, this one stays done
        return "stale", f"after {_listed([' '.join(key) for key in first])}"
    try:
        now, before = task.inputs(), stamp.inputs
        files = ctx.stamps.damaged(stamp)
        changed = sorted(name for name in {**before, **now} if before.get(name) != now.get(name))
        if changed and not files:
            return "stale", f"{_listed([MEANINGS.get(name, f'`{name}`') for name in changed])} changed"
        if files := files or list(task.damaged()):
            return "stale", f"{_listed([f'`{file}`' for file in files])} changed or gone since"
    except DiagnosticError as error:
        return "blocked", error.diagnostics[0].message
    return "done", ""


SECOND_TO_WARM_UP = 0.5
"""To load a model, and whatever else a task does once."""
LOAD_S = 1.5
"""To write a model for an engine and load it there."""
LIBRARIES_S = 3.5
"""To import torch and transformers, once in a run."""
LIBRARIES_BYTES = 430 << 20
"""Memory of a process that has loaded torch and transformers."""
LAYER_S = 0.4e-3
"""Overhead of one layer's forward pass, in Python and in calls of operators."""
SHARE_OF_PEAK = 0.8
"""Share of the speed of a large matrix product that a stage's products reach."""
BANDWIDTH_BYTES_PER_S = 1e12
"""Speed that is assumed of a GPU's memory."""
DEVICE = ("name", "count", "memory_bytes", "usable_bytes", "host_bytes", "dtype")
"""Fields of the device that the JSON of a dry run shows."""


@dataclass(frozen=True, slots=True)
class Step:
    """A task to execute, with its estimate and the memory plans of its parts.

    `peak_bytes`: peak memory of the process, or of each GPU on a GPU machine; 0 without plans. `source`: how the log gives
    `seconds`: a former run took so long, or an interrupted one has that much left; empty for an estimate.
    """

    status: TaskStatus
    work: Work
    plans: Sequence[StagePlan]
    peak_bytes: int
    seconds: float
    source: str

    @property
    def scratch_bytes(self) -> int:
        """Most bytes of temporary files, by the memory plans, or by the estimated work if those say nothing."""
        planned = [plan.scratch_bytes for plan in self.plans if plan.scratch_bytes is not None]
        return max(planned, default=self.work.scratch_bytes)

    def row(self) -> tuple[str, ...]:
        """Return title, time, memory, disk and reason as text; a score's title has the number of runs of layers it measures."""
        runs = f" (with {self.work.runs} runs of layers)" if self.work.runs else ""
        time = duration(self.seconds) + (f" ({self.source})" if self.source else "")
        memory, disk = size(self.peak_bytes), size(self.work.written_bytes)
        return self.status.task.title + runs, time, memory, disk, self.status.why

    def as_json(self, device: Device) -> dict[str, object]:
        """Return the step as a JSON object."""
        plans = [{"stage": p.stage, **p.as_json(), "fits": p.fits(device)} for p in self.plans]
        return {
            **status_json(self.status),
            "seconds": round(self.seconds, 1),
            "from_log": bool(self.source),
            "bytes": self.work.written_bytes,
            "scratch_bytes": self.scratch_bytes,
            "peak_bytes": self.peak_bytes,
            **({"runs": self.work.runs} if self.work.runs else {}),
            **({"memory": plans} if plans else {}),
        }


class Estimator:
    """Estimates for one program: on this machine, or on the device `elsewhere`."""

    def __init__(self, ctx: Context, elsewhere: Device | None = None) -> None:
        self.ctx, self._elsewhere = ctx, elsewhere
        self._took, self._begun = _durations(ctx.build.log) if elsewhere is None else ({}, {})

    def of(self, status: TaskStatus, plans: Sequence[StagePlan] = ()) -> Step:
        """Return the estimate of one task. Its time is from the log, or from `plans` on a device elsewhere, or from its work."""
        work, key, source = status.task.work(), status.task.key, ""
        if key in self._begun:
            seconds, source = self._begun[key]
        elif key in self._took:
            seconds, source = self._took[key], "as before"
        elif self._elsewhere is not None and plans:
            seconds = sum(plan.seconds for plan in plans)
        else:
            seconds = _seconds(work, plans, self.device)
        peak_bytes = max((plan.peak_bytes for plan in plans), default=0)
        if plans and not self.device.is_gpu:  # with the process's own
            peak_bytes = LIBRARIES_BYTES + max(peak_bytes, *(plan.host_bytes for plan in plans))
        return Step(status, work, plans, peak_bytes, seconds, source)

    @cached_property
    def device(self) -> Device:
        """The device that memory is planned for. This machine's probed speeds are scaled by logged times of finished tasks."""
        if self._elsewhere is not None:
            return self._elsewhere
        here, program = self._probed, self.ctx.program
        kinds = (kind for kind in TASKS.values() if kind.sets_pace)
        known = [kind(self.ctx, name) for kind in kinds for name in kind.declared(program)]
        ratios = [
            took / _seconds(task.work(), task.plans(here, here.memory_bytes), here)
            for task in known
            if (took := self._took.get(task.key))
        ]
        slowness = median(ratios) if ratios else 1.0
        rates = (field.name for field in fields(here) if field.name.endswith("_per_s"))
        return replace(here, **{name: getattr(here, name) / slowness for name in rates})

    @cached_property
    def _probed(self) -> Device:
        """This machine's device at probed speeds. A CPU's memory counts as if no other program used any: they come and go."""
        from puzzledsl.measure.stopwatch import rates_of
        from puzzledsl.models.machine import whole_bytes
        from puzzledsl.models.placement import placement, this_device

        sources = (parent.source for parent in self.ctx.program.parents.values())
        folders = [self.ctx.base / source.id for source in sources if isinstance(source, nodes.HfSource)]
        sizes = {folder: sum(p.stat().st_size for p in folder.glob("*.safetensors")) for folder in folders}
        place = placement(max(folders, key=sizes.__getitem__, default=self.ctx.base))
        here, rates = this_device(*place), rates_of(*place)
        if not here.is_gpu:
            here = replace(here, memory_bytes=whole_bytes(), host_bytes=whole_bytes())
        return replace(
            here,
            flop_per_s=SHARE_OF_PEAK * rates.flop_per_s,
            bandwidth_bytes_per_s=BANDWIDTH_BYTES_PER_S if here.is_gpu else rates.bytes_per_s,
        )


def _seconds(work: Work, plans: Sequence[StagePlan], device: Device) -> float:
    """Return a task's estimated seconds: matrix products (as `plans` time them, if any do), warm-up, traffic, calls and loads."""
    products = sum(plan.seconds for plan in plans) or work.flop / device.flop_per_s
    if not products:
        return 0.1
    traffic = work.moved_bytes / device.bandwidth_bytes_per_s
    return SECOND_TO_WARM_UP + products + traffic + LAYER_S * work.layer_calls + LOAD_S * work.loads


Begun = dict[Key, tuple[float, str]]
"""Interrupted tasks: the estimated seconds of the units that are left, and how many units are done, in words."""


def _durations(log: Path) -> tuple[dict[Key, float], Begun]:
    """Return the seconds of each task's last finished run, and the tasks that were begun after their last one and did not end."""
    took: dict[Key, float] = {}
    begun: Begun = {}
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
                done = f"{int(event['done'])} of {int(event['total'])} are done"
                begun[event["stage"], event["name"]] = float(event["seconds_left"]), done
        except (ValueError, KeyError, TypeError):
            continue  # a torn or damaged line of a log is no line
    return took, begun


@dataclass(frozen=True, slots=True)
class DryRun:
    """The tasks to execute, the number already `done`, free disk space and the device planned for. `loading_s`: for imports."""

    steps: tuple[Step, ...]
    done: int
    free_bytes: int
    device: Device
    loading_s: float = 0.0

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
        return sum(step.work.written_bytes for step in self.steps)

    @property
    def scratch_bytes(self) -> int:
        """Largest temporary disk space of any step."""
        return max((step.scratch_bytes for step in self.steps), default=0)

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
        yield from aligned([("task", "time", "memory", "disk", "why"), *(step.row() for step in self.steps)])
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
        if self.written_bytes + self.scratch_bytes > self.free_bytes:
            yield "the disk has not enough room: free some, or give another directory with `-o`"


def dry_run(ctx: Context, until: str | None, only: str | None, device: Device | None = None) -> DryRun:
    """Return what `pzl run` would do with `--until` and `--only`, on this machine or on `device`. Changes nothing."""
    wanted = [s for s in statuses(ctx) if is_wanted(s.task.stage, until, only)]
    place = next(path for path in (ctx.build.root, *ctx.build.root.parents) if path.exists())
    free, estimator = shutil.disk_usage(place).free, Estimator(ctx, device)
    todo = [status for status in wanted if status.word != "done"]
    steps = [estimator.of(status, status.task.plans(estimator.device, free)) for status in todo]
    loading_s = LIBRARIES_S if device is None and any(step.plans for step in steps) else 0.0
    return DryRun(tuple(steps), len(wanted) - len(steps), free, estimator.device, loading_s)


def status_json(status: TaskStatus) -> dict[str, object]:
    """Return one task as a JSON object."""
    task = status.task
    return {"stage": task.stage, "name": task.name, "state": status.word, "why": status.why}


_ANYWAY = {
    "bld": "its pieces are made in more passes",
    "uptrain": "it does not begin, and says what would do",
}
"""Stage -> what happens if its memory plan does not fit the device; `_TRIED` for the other stages."""
_TRIED = "it is tried all the same, and what is finished is kept"


def memory_lines(device: Device, plans: Sequence[StagePlan]) -> Iterator[str]:
    """Yield the table of memory plans: each stage's bytes on one device and on its host, its time, and what the plan chose."""
    count = f"{device.count} x {device.name}" if device.count > 1 else device.name
    beside = f", {size(device.host_bytes)} of host memory beside each" if device.is_gpu else ""
    yield f"memory on {count}: {size(device.usable_bytes)} usable of {size(device.memory_bytes)}{beside}; {device.dtype}"
    rows: list[tuple[str, ...]] = [("stage", "device", "host", "time", "chosen, and why")]
    for plan in plans:
        fits = "" if plan.fits(device) else f" (too much: {_ANYWAY.get(plan.stage, _TRIED)})"
        chosen = [f"{c.what}: {c.value} ({c.why})" for c in plan.choices] or [""]
        on = f" x {plan.devices}" if plan.devices > 1 else ""
        name, memory = f"{plan.stage} {plan.name}".strip(), f"{size(plan.peak_bytes)}{on}{fits}"
        time = duration(plan.seconds) if plan.seconds else ""
        rows.append((name, memory, size(plan.host_bytes), time, chosen[0]))
        rows += [("", "", "", "", more) for more in chosen[1:]]
    yield from aligned(rows)


def size(count: int) -> str:
    """Format bytes for reading; empty below 64 KiB."""
    return format_quantity(Fraction(count), BYTES) if count >= 1 << 16 else ""
