"""`pzl run`: every declaration of a program, in the order of the pipeline, skipping what is fresh."""

from __future__ import annotations

from collections.abc import Callable

from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.ir.tables import SearchResult
from puzzledsl.pipeline.compile import compile_program
from puzzledsl.pipeline.context import Context
from puzzledsl.pipeline.execute import execute, locked
from puzzledsl.pipeline.graph import tasks_of
from puzzledsl.pipeline.inputs import refined_frontier_of, refinement_of
from puzzledsl.pipeline.planning.preflight import missing
from puzzledsl.pipeline.process.locks import holder_of
from puzzledsl.pipeline.targets import not_ready
from puzzledsl.pipeline.task import STAGES, Task
from puzzledsl.pipeline.text.refined_text import refined_line, refined_points_line


def is_wanted(stage: str, until: str | None, only: str | None) -> bool:
    """True where `--until` and `--only` leave a stage in."""
    if only is not None:
        return stage == only
    return until is None or STAGES.index(stage) <= STAGES.index(until)


def run_everything(ctx: Context, until: str | None, only: str | None, say: Callable[[str], None]) -> None:
    """Do all that is stale. Raises DiagnosticError where a child is asked for that the search cannot give.

    With `only`, what the stage reads is taken as it is."""
    before = holder_of(ctx.build.root)
    with locked(ctx):
        if before is not None:
            say(f"an earlier run ended in the middle ({before}): going on from what it left")
        say(compile_program(ctx, models=False).as_text())
        if found := missing(ctx, lambda stage: is_wanted(stage, until, only)):
            raise DiagnosticError(*found)
        for task in tasks_of(ctx):
            if not is_wanted(task.stage, until, only):
                continue
            if task.stage == "solve" and (problem := not_ready(ctx, task.name)) is not None:
                raise DiagnosticError(problem)
            ((_, done),) = execute(ctx, [task])
            say(f"[bold]{task.title}[/bold]: {'done' if done else 'up to date'}{_remark(ctx, task)}")
            if task.stage == "solve":
                _stop_if_hopeless(ctx, task.name)
        compile_program(ctx)


def _result(ctx: Context, search: str) -> SearchResult:
    return ctx.load(ctx.build.solution(search), SearchResult, "solve", search)


def _stop_if_hopeless(ctx: Context, search: str) -> None:
    """End the run when a search that a later declaration builds on has no solution; a baseline may have none."""
    result = _result(ctx, search)
    program = ctx.program
    wanted = {u.search for u in program.uptrains.values()}
    wanted |= {child for e in program.evals.values() for child in (e.of, *e.full)}
    wanted |= {e.of for e in program.exports.values()}
    if result.status == "infeasible" and search in wanted:
        from puzzledsl.search.infeasible.verdicts import infeasible_diagnostic

        raise DiagnosticError(infeasible_diagnostic(program, result))


def _remark(ctx: Context, task: Task) -> str:
    if task.stage == "refine" and task.name in ctx.program.frontiers:
        return f", {refined_points_line(refined_frontier_of(ctx, task.name))}"
    if task.stage == "refine":
        found = refinement_of(ctx, task.name)
        return "" if found is None else f", {refined_line(found)}"
    if task.stage != "solve":
        return ""
    result = _result(ctx, task.name)
    if not result.solutions:
        return f", {result.status}"
    text = f", {result.status}, objective {result.solutions[0].objective:.6g}"
    return text + (
        f", bound {result.bound:.6g}, gap {result.gap or 0:.2g}" if result.bound is not None else ""
    )
