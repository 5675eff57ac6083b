"""`pzl run`: execute all stages of a program that are not done yet; `pzl status`: the state of each with its reason."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from puzzledsl.base.diagnostics import Diagnostic
from puzzledsl.base.phrases import aligned
from puzzledsl.cli import loading
from puzzledsl.cli.loading import JsonOption, on_program

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
    from puzzledsl.pipeline.execute import TasksFailed, is_wanted, run_all
    from puzzledsl.pipeline.inputs import evaluation_of
    from puzzledsl.pipeline.process.reporter import Reporter
    from puzzledsl.pipeline.text.child_text import summary
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
    from puzzledsl.pipeline.process.locks import at_work

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
