"""`pzl run`: every declaration of a program, in the order of the pipeline, skipping what is fresh."""

from __future__ import annotations

from collections.abc import Callable

from puzzledsl.base.diagnostics import Diagnostic, DiagnosticError
from puzzledsl.pipeline.compile import compile_program
from puzzledsl.pipeline.context import Context
from puzzledsl.pipeline.execute import execute
from puzzledsl.pipeline.graph import tasks_of
from puzzledsl.pipeline.planning.preflight import missing
from puzzledsl.pipeline.process.locks import holder_of, locked
from puzzledsl.pipeline.tasks import TASKS


def is_wanted(stage: str, until: str | None, only: str | None) -> bool:
    """Return True if `--until` and `--only` include a stage."""
    if only is not None:
        return stage == only
    stages = list(TASKS)
    return until is None or stages.index(stage) <= stages.index(until)


def run_all(ctx: Context, until: str | None, only: str | None, say: Callable[[str], None]) -> None:
    """Run every stale task. Raises DiagnosticError if a later declaration needs a child that the search cannot give.

    With `only`, the stage's inputs are taken as they are.
    """
    before = holder_of(ctx.build.root)
    with locked(ctx), ctx.session():
        if before is not None:
            say(f"an earlier run ended in the middle ({before}): going on from what it left")
        say(compile_program(ctx, models=False).as_text())
        if found := missing(ctx, lambda stage: is_wanted(stage, until, only)):
            raise DiagnosticError(*found)
        for task in tasks_of(ctx):
            if not is_wanted(task.stage, until, only):
                continue
            _raise(task.obstacle())
            ((_, done),) = execute(ctx, [task])
            say(f"[bold]{task.title}[/bold]: {'done' if done else 'up to date'}{task.remark()}")
            _raise(task.dead_end())
        compile_program(ctx)


def _raise(problem: Diagnostic | None) -> None:
    if problem is not None:
        raise DiagnosticError(problem)
