"""Run tasks in order: skip fresh ones, stamp finished ones, and go on without those that fail."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from logging import getLogger

from puzzledsl.base import process
from puzzledsl.base.diagnostics import Diagnostic, DiagnosticError
from puzzledsl.cluster.errors import ClusterNotReached, NoWorkers, RayNotInstalled, WorkersKeepDying
from puzzledsl.pipeline.context import Context
from puzzledsl.pipeline.errors import DamagedArtefact, DiskFull, NotMadeYet, NotReady
from puzzledsl.pipeline.process.disk import disk_errors
from puzzledsl.pipeline.process.failures import Unfinished, forget, record
from puzzledsl.pipeline.stamps import MADE_BY
from puzzledsl.pipeline.task import Key, Task
from puzzledsl.pipeline.tasks import TASKS

UNFINISHED = "unfinished"
"""Input in the stamp of a task that left a part of its outputs: such a task is never up to date."""
ENDS_A_RUN = (DiskFull, RayNotInstalled, ClusterNotReached, NoWorkers, WorkersKeepDying)
"""Problems of the machine, which every other task would meet, too."""
NOT_TRIED = (DamagedArtefact, NotMadeYet, NotReady)
"""Problems of a task that lacks its inputs, or whose inputs are damaged: it is missing, not failed."""


class TasksFailed(DiagnosticError):
    """Tasks failed, and all that need none of them are done. Holds the problems of all."""


def execute(
    ctx: Context,
    tasks: Iterable[Task],
    *,
    force: bool = False,
    say: Callable[[str], None] = lambda text: None,
) -> None:
    """Run each stale task (every task with `force`). `say` gets a line about each.

    Raises DiagnosticError (TasksFailed) at the end if tasks failed.
    """
    attempts = Attempts(ctx, say, force=force)
    with ctx.session():
        for task in tasks:
            attempts.attempt(task)
    attempts.close()


@dataclass
class Attempts:
    """Tasks of one run. Each is tried unless one that it needs has failed before.

    `say` gets a line about each task. `force`: also up-to-date ones. `whole`: of a run of the whole program, in which a
    search without a solution is a failure.
    """

    ctx: Context
    say: Callable[[str], None]
    force: bool = False
    whole: bool = False
    _problems: list[Diagnostic] = field(default_factory=list)
    _lost: dict[Key, Key] = field(default_factory=dict)
    """Failed tasks, and those that need one of them: each with the failed one."""

    def __post_init__(self) -> None:
        """Let the garbage collector disturb the work less, and transformers recommend no kernels in the command's own process."""
        if process.work():
            getLogger("transformers.integrations.hub_kernels").setLevel("ERROR")

    def attempt(self, task: Task) -> None:
        """Run a task if it is stale and if no task that it needs has failed.

        Raises DiagnosticError for a problem that all other tasks would meet, too.
        """
        if (cause := self._cause(task)) is not None:
            self._lost[task.key] = cause
            self.say(f"{self._title(task)}: not made, because {' '.join(cause)} failed")
            return
        try:
            if self.whole:
                _raise(task.obstacle())
            ran = _one(self.ctx, task, self.force)
            done = "done" if ran else "up to date"
            self.say(f"{self._title(task)}: {done}{task.remark() if self.whole else ''}")
            if self.whole:
                _raise(task.dead_end())
        except DiagnosticError as error:
            if any(isinstance(problem, ENDS_A_RUN) for problem in error.diagnostics) or _has_followers():
                raise
            self._fail(task, error)

    def close(self) -> None:
        """Raise DiagnosticError (TasksFailed) if tasks failed."""
        if self._problems:
            raise TasksFailed(*{problem.sort_key: problem for problem in self._problems}.values())

    def _fail(self, task: Task, error: DiagnosticError) -> None:
        self._lost[task.key] = task.key
        self._problems += error.diagnostics
        first = error.diagnostics[0]
        self.ctx.progress.log(
            "failed", stage=task.stage, name=task.name, code=first.code, message=first.message
        )
        self.say(f"{self._title(task)}: failed ({first.code})")

    def _title(self, task: Task) -> str:
        return f"[bold]{task.title}[/bold]" if self.whole else task.title

    def _cause(self, task: Task) -> Key | None:
        """Return the failed task that this one needs, directly or through others."""
        for key in (*task.requires(), *task.writers()):
            if key not in self._lost:
                kind, (stage, name) = TASKS[key[0]], key
                if name not in kind.declared(self.ctx.program):
                    continue
                if (cause := self._cause(kind(self.ctx, name))) is None:
                    continue
                self._lost[stage, name] = cause
            return self._lost[key]
        return None


def _one(ctx: Context, task: Task, force: bool) -> bool:
    try:
        ran = _run(ctx, task, force)
    except DiagnosticError as error:
        if not any(isinstance(problem, (*ENDS_A_RUN, *NOT_TRIED)) for problem in error.diagnostics):
            with disk_errors(ctx.build.root):
                record(ctx.build, task.stage, task.name, error)
        raise
    forget(ctx.build, task.stage, task.name)
    return ran


def _run(ctx: Context, task: Task, force: bool) -> bool:
    inputs = task.inputs()
    if not force and ctx.stamps.is_fresh(task.stage, task.name, inputs) and not task.damaged():
        ctx.progress.log("fresh", stage=task.stage, name=task.name)
        return False
    ctx.progress.log("start", stage=task.stage, name=task.name)
    began = time.monotonic()
    with disk_errors(ctx.build.root):
        try:
            outputs = task.run()
        except Unfinished as error:
            ctx.stamps.write(task.stage, task.name, {**inputs, UNFINISHED: "1"}, error.outputs, MADE_BY)
            raise
        ctx.stamps.write(task.stage, task.name, inputs, outputs, MADE_BY)
    ctx.progress.log(
        "end",
        stage=task.stage,
        name=task.name,
        seconds=round(time.monotonic() - began, 3),
    )
    return True


def _has_followers() -> bool:
    """Return True under `torchrun` on several ranks, which end together."""
    return os.environ.get("WORLD_SIZE", "1") != "1"


def _raise(problem: Diagnostic | None) -> None:
    if problem is not None:
        raise DiagnosticError(problem)
