"""One stage of a program, for the declarations named on the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from puzzledsl.pipeline.context import Context


def do_stage(ctx: Context, stage: str, names: list[str] | None, *, again: bool = False) -> list[str]:
    """Do one stage for the named declarations (all without names), skipping what is fresh unless `again`. Return their names.

    Raises DiagnosticError at the end for those that failed.
    """
    from puzzledsl.pipeline.execute import execute
    from puzzledsl.pipeline.process.locks import locked
    from puzzledsl.pipeline.process.reporter import Reporter
    from puzzledsl.pipeline.targets import chosen
    from puzzledsl.pipeline.tasks import TASKS

    task = TASKS[stage]
    wanted = chosen(task.kind, task.declared(ctx.program), names, ctx.file, stage)
    with locked(ctx), Reporter(ctx.build.log) as progress:
        ctx.progress = progress
        execute(ctx, [task(ctx, name) for name in wanted], force=again, say=progress.say)
    return wanted
