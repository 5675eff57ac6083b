"""Runs tasks in order: skips what is fresh, stamps what is finished, holds the build directory's lock."""

from __future__ import annotations

import errno
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from puzzledsl import __version__
from puzzledsl.diagnostics import DiagnosticError
from puzzledsl.runs.context import Context
from puzzledsl.runs.errors import BuildLocked, DiskFull
from puzzledsl.runs.tasks import Task


@contextmanager
def locked(ctx: Context) -> Iterator[None]:
    """Hold the build directory for one process. Raises DiagnosticError when another one has it."""
    lock = FileLock(ctx.build.root / ".lock")
    try:
        with refusals_told(ctx.build.root):
            ctx.build.root.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=0)
    except Timeout:
        raise DiagnosticError(BuildLocked(None, build=ctx.build.root)) from None
    try:
        _sweep(ctx.build.root)
        yield
    finally:
        lock.release()


def _sweep(root: Path) -> None:
    """Remove what a killed run was writing: temporary files and directories, which nobody else can hold under the lock."""
    for leftover in [*root.rglob(".*.tmp"), *root.rglob(".*.old")]:
        if leftover.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)


def execute(ctx: Context, tasks: Iterable[Task], *, force: bool = False) -> list[tuple[Task, bool]]:
    """Do each task that is stale (every task with `force`). Returns each with whether it was done now."""
    outcome = []
    for task in tasks:
        outcome.append((task, _one(ctx, task, force)))
    return outcome


REFUSALS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES)


@contextmanager
def refusals_told(root: Path) -> Iterator[None]:
    """Make a diagnostic of what the operating system refuses to write. Raises DiagnosticError (DiskFull)."""
    try:
        yield
    except OSError as error:
        if error.errno not in REFUSALS:
            raise
        raise DiagnosticError(DiskFull(None, path=error.filename or root, reason=error.strerror)) from error


def _one(ctx: Context, task: Task, force: bool) -> bool:
    with refusals_told(ctx.build.root):
        return _fresh_or_done(ctx, task, force)


def _fresh_or_done(ctx: Context, task: Task, force: bool) -> bool:
    inputs = task.inputs()
    if not force and ctx.stamps.is_fresh(task.stage, task.name, inputs):
        ctx.progress.log("fresh", stage=task.stage, name=task.name)
        return False
    ctx.progress.log("start", stage=task.stage, name=task.name)
    began = time.monotonic()
    outputs = task.run()
    ctx.stamps.write(task.stage, task.name, inputs, outputs, f"puzzledsl {__version__}")
    ctx.progress.log(
        "end",
        stage=task.stage,
        name=task.name,
        seconds=round(time.monotonic() - began, 3),
    )
    return True
