"""`pzl run`: every declaration of a program, in the order of the pipeline, skipping what is fresh."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from puzzledsl.diagnostics import DiagnosticError
from puzzledsl.ir import nodes
from puzzledsl.ir.tables import SearchResult
from puzzledsl.runs import tasks
from puzzledsl.runs.compile import compile_program
from puzzledsl.runs.context import Context
from puzzledsl.runs.execute import execute, locked, refusals_told
from puzzledsl.runs.narrow import resolve_used_by
from puzzledsl.runs.tasks import STAGES, Task


def run_everything(ctx: Context, until: str | None, say: Callable[[str], None]) -> None:
    """Do all that is stale. Raises DiagnosticError where a child is asked for that the search cannot give."""
    last = STAGES.index(until) if until else len(STAGES) - 1
    with locked(ctx):
        with refusals_told(ctx.build.root):
            say(compile_program(ctx, models=False).as_text())
        for task in _tasks(ctx):
            if STAGES.index(task.stage) > last:
                continue
            ((_, done),) = execute(ctx, [task])
            say(f"[bold]{task.title}[/bold]: {'done' if done else 'up to date'}{_remark(ctx, task)}")
            if task.stage == "solve":
                _stop_if_hopeless(ctx, task.name)
        with refusals_told(ctx.build.root):
            compile_program(ctx)


def _tasks(ctx: Context) -> Iterator[Task]:
    """Lazily, because later tasks depend on what earlier ones find (a `used_by` space, a search without a solution)."""
    program = ctx.program
    trainable = [name for name, space in program.spaces.items() if space.used_by is None]
    if tasks.measured_scenarios(ctx):
        yield from (tasks.measure(ctx, name) for name in trainable)
    yield from _pieces_and_solutions(ctx, trainable)
    resolved, waiting = resolve_used_by(ctx.program, ctx.build)
    ctx.program = resolved
    derived = [
        name for name, space in program.spaces.items() if space.used_by is not None and name not in waiting
    ]
    yield from _pieces_and_solutions(ctx, derived)
    for name in ctx.program.searches:
        if _has_checkpoint(ctx, name) and _result(ctx, name).solutions:
            yield tasks.realise(ctx, name)
    yield from (tasks.uptrain(ctx, name) for name in program.uptrains)
    yield from (tasks.evaluate(ctx, name) for name in program.evals)
    yield from (tasks.export(ctx, name) for name in program.exports)
    yield tasks.report(ctx)


def _pieces_and_solutions(ctx: Context, spaces: list[str]) -> Iterator[Task]:
    program = ctx.program
    yield from (tasks.bld(ctx, name) for name, bld in program.blds.items() if bld.space in spaces)
    mine = [name for name, search in program.searches.items() if search.space in spaces]
    scores = {
        name: score.method.around
        for name, score in program.scores.items()
        if score.space in spaces and isinstance(score.method, nodes.ReplaceOne)
    }
    yield from _scores_and_searches(ctx, scores, mine)
    yield from (tasks.frontier(ctx, name) for name, f in program.frontiers.items() if f.search in mine)


def _scores_and_searches(ctx: Context, scores: dict[str, str | None], searches: list[str]) -> Iterator[Task]:
    """Scores, then the searches that need no others, then scores around their children, and so on."""
    from puzzledsl.search.needs import needed

    waiting, unsolved = dict(scores), list(searches)
    while waiting or unsolved:
        ready = [name for name, around in waiting.items() if around not in unsolved]
        for name in ready:
            del waiting[name]
            yield tasks.score(ctx, name)
        solvable = [name for name in unsolved if not needed(ctx.program, name).scores & set(waiting)]
        for name in solvable:
            unsolved.remove(name)
            yield tasks.solve(ctx, name)
        if not ready and not solvable:  # a score around the child of a search that needs it: each says so
            yield from (tasks.solve(ctx, name) for name in unsolved)
            return


def _has_checkpoint(ctx: Context, search: str) -> bool:
    space = ctx.program.spaces[ctx.program.searches[search].space]
    source = ctx.program.parents[space.parent].source
    trained = any(bld.space == space.name for bld in ctx.program.blds.values())
    return isinstance(source, nodes.HfSource) and trained and ctx.build.solution(search).is_file()


def _result(ctx: Context, search: str) -> SearchResult:
    return ctx.load(ctx.build.solution(search), SearchResult, "solve", search)


def _stop_if_hopeless(ctx: Context, search: str) -> None:
    """End the run when a search that a later declaration builds on has no solution; a baseline may have none."""
    result = _result(ctx, search)
    program = ctx.program
    wanted = {u.search for u in program.uptrains.values()}
    wanted |= {e.of for e in program.evals.values()} | {e.of for e in program.exports.values()}
    if result.status == "infeasible" and search in wanted:
        from puzzledsl.search.verdicts import infeasible_diagnostic

        raise DiagnosticError(infeasible_diagnostic(program, result))


def _remark(ctx: Context, task: Task) -> str:
    if task.stage != "solve":
        return ""
    result = _result(ctx, task.name)
    if not result.solutions:
        return f", {result.status}"
    text = f", {result.status}, objective {result.solutions[0].objective:.6g}"
    return text + (
        f", bound {result.bound:.6g}, gap {result.gap or 0:.2g}" if result.bound is not None else ""
    )
