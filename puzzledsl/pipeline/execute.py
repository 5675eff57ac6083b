"""Run tasks in order: skip fresh ones, stamp finished ones."""

from __future__ import annotations

import time
from collections.abc import Iterable

from puzzledsl.base import gc_tuning
from puzzledsl.pipeline.context import Context
from puzzledsl.pipeline.process.disk import disk_errors
from puzzledsl.pipeline.stamps import MADE_BY
from puzzledsl.pipeline.task import Task


def execute(ctx: Context, tasks: Iterable[Task], *, force: bool = False) -> list[tuple[Task, bool]]:
    """Run each stale task (every task with `force`). Return each task with True if it ran now."""
    gc_tuning.work()
    with ctx.session():
        return [(task, _one(ctx, task, force)) for task in tasks]


def _one(ctx: Context, task: Task, force: bool) -> bool:
    inputs = task.inputs()
    if not force and ctx.stamps.is_fresh(task.stage, task.name, inputs) and not task.damaged():
        ctx.progress.log("fresh", stage=task.stage, name=task.name)
        return False
    ctx.progress.log("start", stage=task.stage, name=task.name)
    began = time.monotonic()
    with disk_errors(ctx.build.root):
        outputs = task.run()
        ctx.stamps.write(task.stage, task.name, inputs, outputs, MADE_BY)
    ctx.progress.log(
        "end",
        stage=task.stage,
        name=task.name,
        seconds=round(time.monotonic() - began, 3),
    )
    return True
