"""`pzl run`: every declaration of a program, in the order of the pipeline, skipping what is fresh."""

from __future__ import annotations

from collections.abc import Callable

from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.pipeline.compile import compile_program
from puzzledsl.pipeline.context import Context
from puzzledsl.pipeline.execute import Attempts
from puzzledsl.pipeline.graph import tasks_of
from puzzledsl.pipeline.planning.preflight import missing
from puzzledsl.pipeline.process.failures import failures, forget
from puzzledsl.pipeline.process.locks import holder_of, locked
from puzzledsl.pipeline.tasks import TASKS


def is_wanted(stage: str, until: str | None, only: str | None) -> bool:
    """Return True if `--until` and `--only` include a stage."""
    if only is not None:
        return stage == only
    stages = list(TASKS)
    return until is None or stages.index(stage) <= stages.index(until)


def run_all(ctx: Context, until: str | None, only: str | None, say: Callable[[str], None]) -> None:
    """Run every stale task. A task that fails takes with it only those that need it.

    With `only`, the stage's inputs are taken as they are. Raises DiagnosticError: for missing files before the first task;
    at the end (TasksFailed) the problems of tasks that failed, also if a later declaration needs a child that the search
    cannot give.
    """
    before = holder_of(ctx.build.root)
    with locked(ctx), ctx.session():
        if before is not None:
            say(f"an earlier run ended in the middle ({before}): going on from what it left")
        say(compile_program(ctx, models=False).as_text())
        if found := missing(ctx, lambda stage: is_wanted(stage, until, only)):
            raise DiagnosticError(*found)
        _forget_removed(ctx)
        attempts = Attempts(ctx, say, whole=True)
        for task in tasks_of(ctx):
            if is_wanted(task.stage, until, only):
                attempts.attempt(task)
        compile_program(ctx)
        attempts.close()


def _forget_removed(ctx: Context) -> None:
    """Remove the failures of tasks that the program has no longer."""
    for failure in list(failures(ctx.build)):
        kind = TASKS.get(failure.stage)
        if kind is None or failure.name not in kind.declared(ctx.program):
            forget(ctx.build, failure.stage, failure.name)
