"""Run tasks in order: skip fresh ones, stamp finished ones, and go on without those that fail.

`run_all` is `pzl run`: every task of a program after those it needs. Under `torchrun`, rank 0 executes the stages and the other
ranks join the training that it announces. The functions at the end solve a search, or load a child, of a run.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from logging import getLogger
from typing import TYPE_CHECKING, Any

from puzzledsl.alternatives.alternative import Site
from puzzledsl.base import process
from puzzledsl.base.diagnostics import Diagnostic, DiagnosticError
from puzzledsl.cluster.tasks import ClusterNotReached, NoWorkers, RayNotInstalled, WorkersKeepDying
from puzzledsl.ir.tables import FrontierResult, SearchResult, WhyResult
from puzzledsl.pipeline import inputs
from puzzledsl.pipeline.compile import chosen, compile_program
from puzzledsl.pipeline.context import Context
from puzzledsl.pipeline.errors import DamagedArtefact, DiskFull, NotMadeYet, NotReady
from puzzledsl.pipeline.inputs import costs_of, scores_of
from puzzledsl.pipeline.opening import child, resolve_used_by
from puzzledsl.pipeline.planning.preflight import missing
from puzzledsl.pipeline.process.locks import disk_errors, holder_of, locked
from puzzledsl.pipeline.stamps import Unfinished, failures, forget, record
from puzzledsl.pipeline.task import Key, Task
from puzzledsl.pipeline.tasks import TASKS
from puzzledsl.pipeline.tasks.children import Uptrain
from puzzledsl.pipeline.tasks.searching import Frontier, Solve

if TYPE_CHECKING:
    from transformers import PreTrainedModel  # noqa: TID251 (a type only)


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
    """Run each stale task, with `force` every one; `say` gets a line of each. Raises TasksFailed at the end if tasks failed."""
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
        """Run a stale task if none that it needs has failed. Raises DiagnosticError for what all others would meet, too."""
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
            has_followers = os.environ.get("WORLD_SIZE", "1") != "1"  # `torchrun`: all ranks end together
            if has_followers or any(isinstance(problem, ENDS_A_RUN) for problem in error.diagnostics):
                raise
            self._lost[task.key] = task.key
            self._problems += error.diagnostics
            first = error.diagnostics[0]
            self.ctx.progress.log(
                "failed", stage=task.stage, name=task.name, code=first.code, message=first.message
            )
            self.say(f"{self._title(task)}: failed ({first.code})")

    def close(self) -> None:
        """Raise DiagnosticError (TasksFailed) if tasks failed."""
        if self._problems:
            raise TasksFailed(*{problem.sort_key: problem for problem in self._problems}.values())

    def _title(self, task: Task) -> str:
        return f"[bold]{task.title}[/bold]" if self.whole else task.title

    def _cause(self, task: Task) -> Key | None:
        """Return the failed task that this one needs, directly or through others."""
        for key in task.requires():
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
            ctx.stamps.write(task.stage, task.name, {**inputs, UNFINISHED: "1"}, error.outputs)
            raise
        ctx.stamps.write(task.stage, task.name, inputs, outputs)
    ctx.progress.log("end", stage=task.stage, name=task.name, seconds=round(time.monotonic() - began, 3))
    return True


def _raise(problem: Diagnostic | None) -> None:
    if problem is not None:
        raise DiagnosticError(problem)


def tasks_of(ctx: Context) -> Iterator[Task]:
    """Yield every task of `pzl run` after those it needs; lazily, because later ones depend on what earlier ones find."""
    for spaces in _rounds(ctx):
        yield from ordered(task for task in _declared(ctx, by_space=True) if task.space in spaces)
    yield from ordered(_declared(ctx))


def _declared(ctx: Context, *, by_space: bool = False) -> Iterator[Task]:
    for kind in TASKS.values():
        if kind.by_space == by_space:
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
    """Yield each existing task after those it needs, stage by stage."""
    waiting = {task.key: task for task in tasks}
    while waiting:
        stage = next(task for task in waiting.values() if not _needs(task, waiting)).stage
        for task in [task for task in waiting.values() if task.stage == stage]:
            if not _needs(task, waiting):
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
        say(compile_program(ctx, models=False)[1])
        if found := missing(ctx, lambda stage: is_wanted(stage, until, only)):
            raise DiagnosticError(*found)
        for failure in list(failures(ctx.build)):  # those of tasks that the program has no longer are removed
            kind = TASKS.get(failure.stage)
            if kind is None or failure.name not in kind.declared(ctx.program):
                forget(ctx.build, failure.stage, failure.name)
        attempts = Attempts(ctx, say, whole=True)
        for task in tasks_of(ctx):
            if is_wanted(task.stage, until, only):
                attempts.attempt(task)
        compile_program(ctx)
        attempts.close()


def solved(ctx: Context, name: str, *, force: bool = True, keep: bool = True) -> tuple[SearchResult, float]:
    """Return a search's result and the seconds it took; `force`: solve again what is fresh; not `keep`: write nothing."""
    began = time.monotonic()
    if not keep:
        return Solve(ctx, name).answer(), time.monotonic() - began
    execute(ctx, [Solve(ctx, name)], force=force)
    return inputs.solution_of(ctx, name), time.monotonic() - began


def solved_frontier(ctx: Context, name: str, *, force: bool = True) -> FrontierResult:
    """Return the points of one frontier, and write its CSV and picture. `force` as for `solved`."""
    execute(ctx, [Frontier(ctx, name)], force=force)
    return ctx.load(ctx.build.frontier(name), FrontierResult, "frontier", name)


def regrets_of(
    ctx: Context, search: str, layer: int | None = None, sub_block: Site | None = None, *, time_s: float
) -> WhyResult | SearchResult:
    """Return the regrets of a layer, a sub-block or all, and margins; the result without a solution. Raises DiagnosticError."""
    from puzzledsl.search.sensitivity.why import why_search

    costs, scores = costs_of(ctx, ctx.program.searches[search].space), scores_of(ctx, search)
    layers = None if layer is None else [layer]
    result = why_search(ctx.program, search, costs, scores, time_s=time_s, layers=layers)
    if sub_block is None or not isinstance(result, WhyResult):
        return result
    kept = tuple(s for s in result.sub_blocks if s.sub_block == sub_block)
    return result.model_copy(update={"sub_blocks": kept})


def load_made_child(ctx: Context, name: str, *, dtype: Any = None, device: Any = "cpu") -> PreTrainedModel:
    """Load the child of a search or of an uptraining, in evaluation mode. `dtype` None: float32. Raises DiagnosticError."""
    declared = {**ctx.program.searches, **ctx.program.uptrains}
    chosen("search or uptrain", declared, [name], ctx.file, "realise")
    ctx.made(*child(ctx.program, name), "the child")
    from puzzledsl.child.checkpoint.contents import load_child

    wanted = {} if dtype is None else {"dtype": dtype}
    return load_child(ctx.build.model(name), device=device, **wanted)


def is_follower() -> bool:
    """Return True on nonzero ranks."""
    return os.environ.get("RANK", "0") != "0"


def join_trainings(ctx: Context) -> bool:
    """Join the training that rank 0 announces until it is done. Return False after a diagnostic, which rank 0 shows."""
    from puzzledsl.uptrain.ranks import announced, leave, ranks_of, wait_for_the_end

    try:
        for name in announced(ranks_of()):
            Uptrain(ctx, name).run()
    except DiagnosticError:
        wait_for_the_end()  # torchrun stops all as soon as one fails: rank 0 speaks first
        return False
    leave()
    return True


def release_followers() -> None:
    """End the other ranks. Called by rank 0 after all work."""
    if os.environ.get("WORLD_SIZE", "1") == "1":
        return
    from puzzledsl.uptrain.ranks import announce, leave, ranks_of

    announce(ranks_of(), None)
    leave()
