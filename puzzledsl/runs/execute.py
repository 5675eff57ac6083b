"""Run tasks in order: skip fresh ones, stamp finished ones."""

from __future__ import annotations

import time
from collections.abc import Iterable

from puzzledsl import collector
from puzzledsl.runs.context import Context
from puzzledsl.runs.disk import disk_errors
from puzzledsl.runs.locks import locked
from puzzledsl.runs.stamps import MADE_BY
from puzzledsl.runs.task import Task

__all__ = ["execute", "locked"]


def execute(ctx: Context, tasks: Iterable[Task], *, force: bool = False) -> list[tuple[Task, bool]]:
    """Do each task that is stale (every task with `force`). Returns each with whether it was done now."""
    collector.work()
    outcome = []
    for task in tasks:
        outcome.append((task, _one(ctx, task, force)))
    return outcome


def _one(ctx: Context, task: Task, force: bool) -> bool:
    inputs = task.inputs()
    if not force and ctx.stamps.is_fresh(task.stage, task.name, inputs) and task.intact():
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
