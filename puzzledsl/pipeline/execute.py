"""Run tasks in order: skip fresh ones, stamp finished ones, and go on without those that fail.

`run_all` is `pzl run`: every task of a program after those it needs. It checks external inputs before it starts, because hours
of measurement may pass before a stage first reads them. Under `torchrun`, rank 0 executes the stages and the other
ranks join the training that it announces. Other functions solve one search or frontier, or explain an answer.
"""

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from logging import getLogger

from puzzledsl.alternatives.alternative import Site
from puzzledsl.base import process
from puzzledsl.base.diagnostics import Diagnostic, DiagnosticError
from puzzledsl.cluster.tasks import ClusterNotReached, NoWorkers, RayNotInstalled, WorkersKeepDying
from puzzledsl.ir import nodes
from puzzledsl.ir.base import span_of
from puzzledsl.ir.tables import FrontierResult, SearchResult, WhyResult
from puzzledsl.pipeline import inputs
from puzzledsl.pipeline.compile import compile_program, resolve_used_by
from puzzledsl.pipeline.context import Context, Key, Unfinished, failures, forget, record
from puzzledsl.pipeline.errors import DamagedArtefact, DiskFull, NotMadeYet, NotReady
from puzzledsl.pipeline.process import disk_errors, holder_of, locked
from puzzledsl.pipeline.task import Task
from puzzledsl.pipeline.tasks import TASKS
from puzzledsl.pipeline.tasks.children import Uptrain
from puzzledsl.pipeline.tasks.searching import Frontier, Solve

UNFINISHED = "unfinished"
"""Input in the stamp of a task that left a part of its outputs: such a task is never up to date."""
ENDS_A_RUN = (DiskFull, RayNotInstalled, ClusterNotReached, NoWorkers, WorkersKeepDying)
"""Problems of the machine that every later task would meet, too: they end a run at once."""
NOT_TRIED = (DamagedArtefact, NotMadeYet, NotReady)
"""Problems of a task that lacks its inputs, or whose inputs are damaged: it is missing, not failed."""


class TasksFailed(DiagnosticError):
    """Raised at the end of a run in which tasks failed, with all their problems. Tasks that need no failed one are done."""


def execute(
    ctx: Context,
    tasks: Iterable[Task],
    say: Callable[[str], None] = lambda text: None,
    *,
    force: bool = False,
    whole: bool = False,
) -> None:
    """Run each stale task (with `force` every one), except those that need a failed task. `say` gets one line about each.

    `whole`: the run is of the whole program: lines show outcomes, and a task with a `dead_end` counts as failed. Raises
    DiagnosticError at once for ENDS_A_RUN, and under `torchrun` for any problem; TasksFailed at the end if tasks failed.
    """
    if process.work():  # in the process of a `pzl` command: hide transformers' hints about kernels
        getLogger("transformers.integrations.hub_kernels").setLevel("ERROR")
    problems, lost = list[Diagnostic](), dict[Key, Key]()
    with ctx.session():
        for task in tasks:
            title = f"[bold]{task.title}[/bold]" if whole else task.title
            if (cause := _cause(task, lost)) is not None:
                lost[task.key] = cause
                say(f"{title}: not made, because {' '.join(cause)} failed")
                continue
            try:
                done = "done" if _ran(ctx, task, force) else "up to date"
                say(f"{title}: {done}{task.remark() if whole else ''}")
                if whole and (problem := task.dead_end()) is not None:
                    raise DiagnosticError(problem)
            except DiagnosticError as error:
                has_followers = os.environ.get("WORLD_SIZE", "1") != "1"  # `torchrun`: all ranks end together
                if has_followers or any(problem.kind in ENDS_A_RUN for problem in error.diagnostics):
                    raise
                lost[task.key], first = task.key, error.diagnostics[0]
                problems += error.diagnostics
                told = {"stage": task.stage, "name": task.name, "code": first.code, "message": first.message}
                ctx.progress.log("failed", **told)
                say(f"{title}: failed ({first.code})")
    if problems:
        raise TasksFailed(*{problem.sort_key: problem for problem in problems}.values())


def _cause(task: Task, lost: dict[Key, Key]) -> Key | None:
    """Return a failed task that this one needs, directly or through others, or None. `lost`: task -> the failed one behind it."""
    for stage, name in task.requires():
        if (stage, name) not in lost:
            if name not in TASKS[stage].declared(task.program):
                continue
            if (cause := _cause(TASKS[stage](task.ctx, name), lost)) is None:
                continue
            lost[stage, name] = cause
        return lost[stage, name]
    return None


def _ran(ctx: Context, task: Task, force: bool) -> bool:
    """Run a task, stamp it and return True; return False if it is up to date. A failure of its own is kept until it is done."""
    try:
        given = task.inputs()
        stamp = None if force else ctx.stamps.read(task.stage, task.name)
        if stamp and stamp.inputs == given and not ctx.stamps.damaged(stamp) and not task.damaged():
            ctx.progress.log("fresh", stage=task.stage, name=task.name)
            forget(ctx.build, task.stage, task.name)
            return False
        ctx.progress.log("start", stage=task.stage, name=task.name)
        began = time.monotonic()
        with disk_errors(ctx.build.root):
            try:
                outputs = task.run()
            except Unfinished as error:
                ctx.stamps.write(task.stage, task.name, {**given, UNFINISHED: "1"}, error.outputs)
                raise
            ctx.stamps.write(task.stage, task.name, given, outputs)
    except DiagnosticError as error:
        if not any(problem.kind in (*ENDS_A_RUN, *NOT_TRIED) for problem in error.diagnostics):
            with disk_errors(ctx.build.root):
                record(ctx.build, task.stage, task.name, error)
        raise
    ctx.progress.log("end", stage=task.stage, name=task.name, seconds=round(time.monotonic() - began, 3))
    forget(ctx.build, task.stage, task.name)
    return True


def tasks_of(ctx: Context) -> Iterator[Task]:
    """Yield every task of `pzl run` after those it needs; lazily, because later ones depend on what earlier ones find.

    A space that a search narrows is narrowed before its first task; until that search is solved, its tasks are left out.
    """
    kinds = TASKS.values()
    for task in ordered([kind(ctx, name) for kind in kinds for name in kind.declared(ctx.program)]):
        if task.by_space:
            ctx.program, unsolved = resolve_used_by(ctx.program, ctx.build)
            if task.space in unsolved:
                continue
        yield task


def ordered(tasks: Iterable[Task]) -> Iterator[Task]:
    """Yield each task for which `exists()` is true, after those it needs, stage by stage."""
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


FIRST_DOCUMENTS = 64
BYTES_A_TOKEN = 16
"""Assumed upper limit: a text with more bytes than this for each token wanted is long enough."""


def missing(ctx: Context, wanted: Callable[[str], bool]) -> list[Diagnostic]:
    """Return the problems with inputs of the `wanted` stages: what is absent; else texts that are unreadable; else too short."""
    kinds = [kind for kind in TASKS.values() if wanted(kind.stage)]
    tasks = [kind(ctx, name) for kind in kinds for name in kind.declared(ctx.program)]
    parents = _parents(ctx) if any(kind.reads_text for kind in kinds) else ()
    found = [*parents, *_texts(ctx, tasks), *_items(ctx, tasks), *(p for task in tasks for p in task.lacks())]
    return found or list(_unreadable(ctx, tasks)) or list(_too_short(ctx, tasks))


def _texts(ctx: Context, tasks: Sequence[Task]) -> Iterator[Diagnostic]:
    from puzzledsl.data.counts import parts_of
    from puzzledsl.data.documents import files_of

    names = {name for task in tasks for name in task.texts()}
    for name, data in ctx.program.data.items():
        for part, _ in parts_of(data) if name in names else ():
            try:
                files_of(part, ctx.base)
            except DiagnosticError as error:
                yield from error.diagnostics


def _unreadable(ctx: Context, tasks: Sequence[Task]) -> Iterator[Diagnostic]:
    """Yield mistakes in the first documents of each text that is not tokenised yet and that a task without a stamp reads."""
    from puzzledsl.data.counts import parts_of
    from puzzledsl.data.documents import Place
    from puzzledsl.data.streams import path_of, try_first
    from puzzledsl.models.families.load import load_tokenizer

    read: dict[str, tuple[nodes.Data, Task]] = {}
    for task in tasks:
        for name in task.texts() if ctx.stamps.read(task.stage, task.name) is None else ():
            if (data := ctx.program.data.get(name or "")) is not None:
                for part, _ in parts_of(data):
                    read.setdefault(part.source.model_dump_json(), (part, task))
    for part, task in read.values():
        place = Place.of(part, ctx.base)
        try:
            tokenizer = load_tokenizer(ctx.parent_directory(task.space, task.stage))
            if not path_of(place, tokenizer, ctx.build.tokens).is_file():
                try_first(place, tokenizer, FIRST_DOCUMENTS)
        except DiagnosticError as error:
            yield from error.diagnostics


def _too_short(ctx: Context, tasks: Sequence[Task]) -> Iterator[Diagnostic]:
    """Yield each text that a task would find too short. Only texts that may be too short are tokenised; the tokens are kept."""
    from puzzledsl.data.errors import MixTooShort, NotEnoughText
    from puzzledsl.data.streams import token_rows
    from puzzledsl.models.families.load import load_tokenizer

    said: set[str] = set()
    for task in tasks:
        for name, tokens, context in task.budgets():
            data = ctx.program.data.get(name or "")
            if data is None or data.name in said or not _may_be_short(data, ctx, tokens):
                continue
            given = data, ctx.base, load_tokenizer(ctx.parent_directory(task.space, task.stage))
            kept, progress = ctx.build.tokens, ctx.progress
            try:
                token_rows(*given, context=context, tokens=tokens, seed=0, cache=kept, progress=progress)
            except DiagnosticError as error:
                short = [each for each in error.diagnostics if each.kind in (NotEnoughText, MixTooShort)]
                if not short:
                    raise
                said.add(data.name)
                yield from short


def _may_be_short(data: nodes.Data, ctx: Context, tokens: int) -> bool:
    """Return True if a part of the text has a `take` below its share of `tokens`, or files that may be too small for it."""
    from puzzledsl.data.counts import parts_of
    from puzzledsl.data.documents import files_of

    parts = parts_of(data)
    weights = sum(weight for _, weight in parts)
    for part, weight in parts:
        assert not isinstance(part.source, nodes.MixData)
        share, (low, high) = tokens * weight / weights, part.source.part or (0, 1)
        if part.source.take is not None and part.source.take < share:
            return True
        files = files_of(part, ctx.base)
        read = sum(path.stat().st_size for path in files) * (high - low)
        if files and read < BYTES_A_TOKEN * share:
            return True
    return False


def _items(ctx: Context, tasks: Sequence[Task]) -> Iterator[Diagnostic]:
    from puzzledsl.data.errors import TasksMissing

    for path, where in dict(found for task in tasks for found in task.items()).items():
        if not (ctx.base / path).is_file():
            yield TasksMissing(span_of(where), file=path, reason="no such file")


def _parents(ctx: Context) -> Iterator[Diagnostic]:
    from puzzledsl.models.errors import NoCheckpoint

    for parent, space in {
        ctx.program.spaces[b.space].parent: b.space for b in ctx.program.blds.values()
    }.items():
        try:
            folder = ctx.parent_directory(space, "bld")
        except DiagnosticError as error:
            yield from error.diagnostics
            continue
        if not any(folder.glob("tokenizer*")):
            where = ctx.program.parents[parent].where
            yield NoCheckpoint(span_of(where), path=folder, reason="it has no tokenizer")


def run_all(ctx: Context, until: str | None, only: str | None, say: Callable[[str], None]) -> None:
    """Run every stale task of the stages that `until` and `only` include. After a failure, only tasks that need it are left out.

    With `only`, the stage's inputs are used as they are, even if stale. `say` gets lines of progress. Raises DiagnosticError
    before the first task if `missing` finds problems; TasksFailed at the end if tasks failed or came to a `dead_end`,
    for example an infeasible search whose child a later declaration needs.
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
        wanted = (task for task in tasks_of(ctx) if is_wanted(task.stage, until, only))
        try:
            execute(ctx, wanted, say, whole=True)
        except TasksFailed:
            compile_program(ctx)
            raise
        compile_program(ctx)


def summary(ctx: Context, covered: Callable[[str], bool] = lambda stage: True) -> str:
    """Return the outcome of a run as plain text: only stages that it `covered` (by `--until`, `--only`) and that have results."""
    from puzzledsl.pipeline.text.child_text import export_lines
    from puzzledsl.pipeline.text.evaluation_text import evaluation_text

    def outcomes(stage: str) -> Iterator[str]:
        for task in (TASKS[stage](ctx, name) for name in TASKS[stage].declared(ctx.program)):
            if ctx.stamps.read(stage, task.name) is not None:
                yield f"{task.title}{task.remark()}"

    blocks = ["\n".join(outcomes(stage)) for stage in ("solve", "refine") if covered(stage)]
    if covered("eval"):
        found = (inputs.evaluation_of(ctx, name) for name in ctx.program.evals)
        blocks += [evaluation_text(each) for each in found if each is not None]
    children = ((name, ctx.build.model(name)) for name in ctx.program.uptrains if covered("uptrain"))
    places = [f"child {name}: {folder}" for name, folder in children if folder.is_dir()]
    if covered("export"):
        places += export_lines(ctx, ctx.program.exports)
    if covered("report") and ctx.build.report.is_file():
        places.append(f"report: {ctx.build.report}")
    return "\n\n".join(block for block in [*blocks, "\n".join(places)] if block)


def solved(ctx: Context, name: str, *, force: bool = True, keep: bool = True) -> tuple[SearchResult, float]:
    """Return a search's result and the seconds it took; `force`: solve again what is fresh; not `keep`: write nothing."""
    began = time.monotonic()
    if not keep:
        return Solve(ctx, name).answer(), time.monotonic() - began
    execute(ctx, [Solve(ctx, name)], force=force)
    return inputs.solution_of(ctx, name), time.monotonic() - began


def solved_frontier(ctx: Context, name: str, *, force: bool = True) -> FrontierResult:
    """Return the points of one frontier, and write them as JSON and CSV. `force` as for `solved`."""
    execute(ctx, [Frontier(ctx, name)], force=force)
    return ctx.load(ctx.build.frontier(name), FrontierResult, "frontier", name)


def regrets_of(
    ctx: Context, search: str, layer: int | None = None, sub_block: Site | None = None, *, time_s: float
) -> WhyResult | SearchResult:
    """Return regrets of a layer and sub-block (None: of all), and margins if `layer` is None. SearchResult: no solution."""
    from puzzledsl.search.sensitivity.why import why_search

    given, layers = inputs.ready_tables(ctx, search), None if layer is None else [layer]
    result = why_search(ctx.program, search, *given, time_s=time_s, layers=layers)
    return of_sub_block(result, sub_block)


def of_sub_block(result: WhyResult | SearchResult, sub_block: Site | None) -> WhyResult | SearchResult:
    """Return `result` with the regrets of `sub_block` alone; unchanged if that is None, or if the search has no solution."""
    if sub_block is None or not isinstance(result, WhyResult):
        return result
    kept = tuple(s for s in result.sub_blocks if s.sub_block == sub_block)
    return result.model_copy(update={"sub_blocks": kept})


def is_follower() -> bool:
    """Return True if `torchrun` started this process with a rank other than 0."""
    return os.environ.get("RANK", "0") != "0"


def join_trainings(ctx: Context) -> bool:
    """Join each training that rank 0 announces, to the end. False: after a diagnostic, which rank 0 shows; DiskFull is raised."""
    from puzzledsl.uptrain.ranks import announced, leave, ranks_of, wait_for_the_end

    try:
        for name in announced(ranks_of()):
            with disk_errors(ctx.build.root):
                Uptrain(ctx, name).run()
    except DiagnosticError as error:
        if any(problem.kind == DiskFull for problem in error.diagnostics):
            raise  # this machine's own disk
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
