"""`pzl run`: every declaration of a program, in the order of the pipeline, skipping what is fresh.

The task graph: all tasks of a program, each after those it needs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.pipeline.compile import compile_program
from puzzledsl.pipeline.context import Context
from puzzledsl.pipeline.execute import Attempts
from puzzledsl.pipeline.planning.preflight import missing
from puzzledsl.pipeline.process.failures import failures, forget
from puzzledsl.pipeline.process.locks import holder_of, locked
from puzzledsl.pipeline.rounds.narrow import resolve_used_by
from puzzledsl.pipeline.task import Key, Task
from puzzledsl.pipeline.tasks import TASKS


def tasks_of(ctx: Context) -> Iterator[Task]:
    """Yield every task of `pzl run`, each after those it needs.

    Lazily: later tasks depend on what earlier ones find (a `used_by` space, a search without a solution).
    """
    yield from ordered(_declared(ctx, of_texts=True))
    for spaces in _rounds(ctx):
        yield from ordered(task for task in _declared(ctx, by_space=True) if task.space in spaces)
    yield from ordered(_declared(ctx))


def _declared(ctx: Context, *, of_texts: bool = False, by_space: bool = False) -> Iterator[Task]:
    for kind in TASKS.values():
        if (kind.of_texts, kind.by_space) == (of_texts, by_space):
            yield from (kind(ctx, name) for name in kind.declared(ctx.program))


def _rounds(ctx: Context) -> Iterator[set[str]]:
    """Yield the spaces that list their alternatives, then those narrowed to their solutions, and so on."""
    done: set[str] = set()
    program = ctx.program
    sources = {
        name: None if space.used_by is None else program.searches[space.used_by.search].space
        for name, space in program.spaces.items()
    }
    while spaces := {
        name for name, source in sources.items() if name not in done and source in {None, *done}
    }:
        ctx.program, waiting = resolve_used_by(ctx.program, ctx.build)
        yield spaces - set(waiting)
        done |= spaces


def ordered(tasks: Iterable[Task]) -> Iterator[Task]:
    """Yield each task after those of the others that it needs, stage by stage, in the order of declarations.

    Scores around the child of a search that needs them are left out: the search says what it lacks.
    """
    waiting = {task.key: task for task in tasks}
    while waiting:
        free = next((task for task in waiting.values() if not _needs(task, waiting)), None)
        stage = next(iter(waiting))[0] if free is None else free.stage
        for task in [task for task in waiting.values() if task.stage == stage]:
            if free is None:
                del waiting[task.key]
            elif not _needs(task, waiting):
                del waiting[task.key]
                if task.exists():
                    yield task


def _needs(task: Task, waiting: dict[Key, Task]) -> bool:
    return any(key in waiting for key in task.needs())


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
