"""`pzl run`: all tasks of a program that are not done yet; `pzl status`: the state of each task with its reason.

Also the commands of single stages. Each resumes where it was interrupted, and skips what is done.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from puzzledsl.base.diagnostics import Diagnostic
from puzzledsl.base.phrases import aligned
from puzzledsl.cli import loading
from puzzledsl.cli.loading import JsonOption, NamesArgument, on_program

if TYPE_CHECKING:
    from puzzledsl.pipeline.context import Context
    from puzzledsl.plan.memory.stage_plan import Device

UNTIL_HELP = "Stop after this stage (measure, bld, score, solve, refine, realise …)."
ONLY_HELP = "Run this stage alone, with the existing files of the others."
DRY_RUN_HELP = "Run nothing; list the tasks with estimates of time, disk space and memory."
DEVICE_HELP = (
    "With --dry-run: plan for this GPU of std/hardware.pzl, such as h100_sxm. Default: this machine."
)
GPUS_HELP = "With --device: the number of these GPUs."
JSON_HELP = "One JSON document: the tasks with --dry-run, else the ending."


@on_program("heal", "on")
def run(
    ctx: Context,
    until: Annotated[str | None, typer.Option("--until", metavar="STAGE", help=UNTIL_HELP)] = None,
    only: Annotated[str | None, typer.Option("--only", metavar="STAGE", help=ONLY_HELP)] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help=DRY_RUN_HELP)] = False,
    device: Annotated[str | None, typer.Option("--device", metavar="PROFILE", help=DEVICE_HELP)] = None,
    gpus: Annotated[int, typer.Option("--gpus", min=1, help=GPUS_HELP)] = 1,
    json: Annotated[bool, typer.Option("--json", help=JSON_HELP)] = False,
) -> None:
    """Run all tasks of the program that are not done yet, in order.

    Interrupt it at any moment (Ctrl-C), or kill it: finished work is kept, and the same command resumes. A task that fails
    takes with it only those that need it: the others are done, failures are told at the end, and the same command tries
    these tasks again.
    """
    from puzzledsl.pipeline.tasks import TASKS

    known = ", ".join(TASKS)
    for option, stage in (("--until", until), ("--only", only)):
        if stage is not None and stage not in TASKS:
            raise typer.BadParameter(f"`{stage}` is no stage; stages: {known}", param_hint=option)
    for option, wrong, message in (
        ("--only", until is not None and only is not None, "give --until or --only, not both"),
        ("--device", device is not None and not dry_run, "goes with --dry-run"),
        ("--gpus", gpus > 1 and device is None, "goes with --device"),
    ):
        if wrong:
            raise typer.BadParameter(message, param_hint=option)
    if not dry_run:
        _run(ctx, until, only, json)
        return
    from puzzledsl.pipeline.dry_run import dry_run as estimated

    found = estimated(ctx, until, only, None if device is None else _device(device, gpus))
    loading.show(json, found.as_json, found.as_text)


def _device(name: str, gpus: int) -> Device:
    from puzzledsl.checker.check import shipped_profiles
    from puzzledsl.plan.memory.stage_plan import device_of

    profiles = shipped_profiles()
    if name not in profiles:
        known = ", ".join(profiles)
        raise typer.BadParameter(f"`{name}` is no profile; profiles: {known}", param_hint="--device")
    return device_of(profiles[name], gpus, name)


def _run(ctx: Context, until: str | None, only: str | None, json: bool) -> None:
    from puzzledsl.base.render import to_json
    from puzzledsl.pipeline.execute import TasksFailed, is_wanted, run_all, summary
    from puzzledsl.pipeline.inputs import evaluation_of
    from puzzledsl.pipeline.process import Reporter
    from puzzledsl.pipeline.text.evaluation_text import doubtful_timings, findings

    problems = list[Diagnostic]()
    with Reporter(ctx.build.log) as progress:
        ctx.progress = progress
        try:
            run_all(ctx, until, only, progress.say)
        except TasksFailed as error:
            problems += error.diagnostics
    if is_wanted("eval", until, only):
        problems += findings(ctx, list(ctx.program.evals))
    if is_wanted("measure", until, only):
        problems += doubtful_timings(ctx, list(ctx.program.spaces))
    if json:
        found = filter(None, (evaluation_of(ctx, name) for name in ctx.program.evals))
        evaluations = [evaluation.model_dump(mode="json") for evaluation in found]
        loading.print_json({"evaluations": evaluations, "diagnostics": to_json(problems)["diagnostics"]})
        problems = [each for each in problems if each.severity == "error"]
    else:
        print(summary(ctx, lambda stage: is_wanted(stage, until, only)))
    loading.end_with(problems)


@on_program("heal")
def status(ctx: Context, json: JsonOption = False) -> None:
    """Show the state of every task of the program, with the reason. Changes nothing.

    `missing`: never made. `stale`: its inputs or its files have changed, or it depends on a task that is stale. `failed`:
    it failed when it was last tried. `pzl run` runs all of these.
    """
    from puzzledsl.data.counts import counts_in
    from puzzledsl.pipeline.dry_run import status_json, statuses
    from puzzledsl.pipeline.process import at_work

    found, holder = list(statuses(ctx)), at_work(ctx.build.root)
    if json:
        texts = {
            name: [counts.model_dump(mode="json", exclude={"source"}) for counts in of_data]
            for name, of_data in counts_in(ctx.build.tokens, ctx.program.data).items()
        }
        working = None if holder is None else holder.model_dump()
        loading.print_json({"at_work": working, "tasks": [status_json(s) for s in found], "texts": texts})
        return
    if holder is not None:
        print(f"at work here: {holder}\n")
    rows = [("task", "state", "why"), *((s.task.title, s.word, s.why) for s in found)]
    print("\n".join(aligned(rows)))
    undone = sum(s.word != "done" for s in found)
    print(f"\n{undone} of {len(found)} to do" if undone else f"\nall {len(found)} done")


def do_stage(ctx: Context, stage: str, names: list[str] | None, *, again: bool = False) -> list[str]:
    """Do one stage for the named declarations (None: all) and return their names. Fresh results stay, unless `again`.

    Raises DiagnosticError for unknown names at once, and at the end for the declarations that failed.
    """
    from puzzledsl.pipeline.compile import chosen
    from puzzledsl.pipeline.execute import execute
    from puzzledsl.pipeline.process import Reporter, locked
    from puzzledsl.pipeline.tasks import TASKS

    task = TASKS[stage]
    wanted = chosen(task.kind, task.declared(ctx.program), names, ctx.file, stage)
    with locked(ctx), Reporter(ctx.build.log) as progress:
        ctx.progress = progress
        execute(ctx, [task(ctx, name) for name in wanted], force=again, say=progress.say)
    return wanted


def plain(stage: str, doc: str, *options: str) -> Callable[..., None]:
    """Return a command that does a stage and prints no result. `doc`: its help; `options`: its shared options (`on`, `heal`)."""

    def command(ctx: Any, names: NamesArgument = None) -> None:
        do_stage(ctx, stage, names)

    command.__doc__ = doc
    return on_program(*options)(command)


bld = plain(
    "bld",
    """Make the pieces: initialise every alternative from the parent and train each alone against the parent's sub-block.

    Finished pieces stay in library/ and are never made twice.
    """,
    "on",
)
score = plain(
    "score",
    "Score every piece: replace one block of the parent and compare outputs. Writes scores/NAME.json.",
    "on",
)
realise = plain(
    "realise",
    """Assemble the child of a solved search and heal it: a checkpoint directory that transformers loads. Writes models/SEARCH/.

    Healing fits the last weights of every sub-block again, so that the child's hidden states follow the parent's.
    """,
    "heal",
    "on",
)


@on_program()
def export(ctx: Context, names: NamesArgument = None) -> None:
    """Write children where the program says, each for its runtime: hf (transformers, vLLM), gguf or mlx."""
    from puzzledsl.pipeline.text.child_text import export_lines

    print("\n".join(export_lines(ctx, do_stage(ctx, "export", names))))


AGAIN_HELP = "Measure anew what is measured already, on a quieter machine."


@on_program("on")
def measure(
    ctx: Context,
    spaces: NamesArgument = None,
    again: Annotated[bool, typer.Option("--again", help=AGAIN_HELP)] = False,
) -> None:
    """Measure real blocks on this machine, for scenarios on `measured(...)` hardware.

    In PyTorch each distinct block once, prefill and decode; in an engine that serves exported models, whole models of random
    mixtures. Then whole children, to say how far sums of blocks are off; in an engine they are such as searches choose, and
    correct the costs. Writes costs/SPACE.measured.json, and costs/SPACE.measured.csv for `table(...)` hardware in other programs.
    Warns of a busy machine. Interrupt it at any moment: the same command goes on from there.
    """
    from puzzledsl.ir.tables import CostTable
    from puzzledsl.pipeline.text.evaluation_text import doubtful_timings

    wanted = do_stage(ctx, "measure", spaces, again=again)
    for space in wanted:
        table = ctx.load(ctx.build.measured_costs(space), CostTable, "measure", space)
        for scenario, provenance in table.provenance.items():
            print(f"{space}, {scenario}: {provenance}")
    loading.print_diagnostics(doubtful_timings(ctx, wanted), {})


@on_program()
def refine(ctx: Context, names: NamesArgument = None, json: JsonOption = False) -> None:
    """Measure children around the optimum of a search that has `refine`, and keep the best. Writes refined/SEARCH.json.

    Each child is built in memory, healed and compared with the parent; the scores are refitted to what was measured, and the
    solver proposes the next ones. What is proven is the optimum of the scores; the best measured child is not. Interrupt
    it at any moment: children that are measured are kept.

    With --json one list of what these files hold.
    """
    from puzzledsl.pipeline.inputs import refinement_of
    from puzzledsl.pipeline.tasks import TASKS
    from puzzledsl.pipeline.text.child_text import refinement_text

    documents, texts, missed = [], [], []
    for name in do_stage(ctx, "refine", names):
        missed.append(TASKS["refine"](ctx, name).dead_end())
        if (found := refinement_of(ctx, name)) is not None:
            documents.append(found.model_dump(mode="json"))
            texts.append(refinement_text(ctx.program, found))
    loading.show(json, lambda: documents, lambda: texts)
    loading.end_with(filter(None, missed))


@on_program()
def uptrain(ctx: Context, names: NamesArgument = None) -> None:
    """Train a child against the parent (global knowledge distillation). Writes models/NAME/.

    On several GPUs: `torchrun --nproc-per-node 8 -m puzzledsl.cli.main uptrain FILE`; parent and child are then sharded
    (FSDP2). Interrupt it at any moment: the same command goes on from there.
    """
    from puzzledsl.pipeline.execute import is_follower, join_trainings, release_followers

    if is_follower():
        if not join_trainings(ctx):
            raise typer.Exit(1)
        return
    do_stage(ctx, "uptrain", names)
    release_followers()


@on_program("on")
def eval_(ctx: Context, names: NamesArgument = None) -> None:
    """Measure parent and children side by side: size, speed, KL, perplexity, tasks. Writes evals/NAME.json.

    Prints the figures, and of each task the accuracy that a child keeps beyond chance: (child - chance) / (parent -
    chance), with a 95 % interval from a paired bootstrap over its items. Warns of a child that is near its parent on one
    text and far from it on another. Interrupt it at any moment: models that are finished are kept.
    """
    from puzzledsl.ir.tables import Evaluation
    from puzzledsl.pipeline.text.evaluation_text import evaluation_text, findings

    wanted = do_stage(ctx, "eval", names)
    found = [ctx.load(ctx.build.evaluation(name), Evaluation, "eval", name) for name in wanted]
    print("\n\n".join(map(evaluation_text, found)))
    loading.end_with(findings(ctx, wanted))


@on_program()
def report(ctx: Context) -> None:
    """Write report.html: one self-contained page with everything that is in the build directory."""
    from puzzledsl.pipeline.execute import execute
    from puzzledsl.pipeline.process import locked
    from puzzledsl.pipeline.tasks.children import Report

    with locked(ctx):
        execute(ctx, [Report(ctx)], force=True)
    print(ctx.build.report)
