"""`pzl run`: execute all stages of a program that are not done yet; `pzl status`: the state of each with its reason."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from puzzledsl.cli import loading
from puzzledsl.cli.completion import complete_stage, if_asked
from puzzledsl.cli.loading import BuildOption, FileArgument, HealOption, JsonOption, OnOption, SetOption

if TYPE_CHECKING:
    from puzzledsl.ir.tables import TextCounts
    from puzzledsl.pipeline.context import Context
    from puzzledsl.plan.memory.stage_plan import Device


def run(
    file: FileArgument,
    build: BuildOption = None,
    set_: SetOption = None,
    until: Annotated[
        str | None,
        typer.Option(
            "--until",
            metavar="STAGE",
            help="Stop after this stage (measure, bld, score, solve, refine, realise …).",
            autocompletion=if_asked(complete_stage),
        ),
    ] = None,
    only: Annotated[
        str | None,
        typer.Option(
            "--only",
            metavar="STAGE",
            help="Run this stage alone, with the existing files of the others.",
            autocompletion=if_asked(complete_stage),
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Run nothing; list the tasks with estimates of time, disk space and memory."
        ),
    ] = False,
    device: Annotated[
        str | None,
        typer.Option(
            "--device",
            metavar="PROFILE",
            help="With --dry-run: plan for this GPU of std/hardware.pzl, such as h100_sxm. Default: this machine.",
        ),
    ] = None,
    gpus: Annotated[int, typer.Option("--gpus", min=1, help="With --device: the number of these GPUs.")] = 1,
    json: Annotated[
        bool, typer.Option("--json", help="One JSON document: the tasks with --dry-run, else the ending.")
    ] = False,
    heal: HealOption = True,
    on: OnOption = None,
) -> None:
    """Run all tasks of the program that are not done yet, in order.

    Interrupt it at any moment (Ctrl-C), or kill it: finished work is kept, and the same command resumes. A task that fails
    takes with it only those that need it: the others are done, failures are told at the end, and the same command tries
    these tasks again.
    """
    from puzzledsl.pipeline.tasks import TASKS

    for option, stage in (("--until", until), ("--only", only)):
        if stage is not None and stage not in TASKS:
            raise typer.BadParameter(f"`{stage}` is no stage; stages: {', '.join(TASKS)}", param_hint=option)
    if until is not None and only is not None:
        raise typer.BadParameter("give --until or --only, not both", param_hint="--only")
    if device is not None and not dry_run:
        raise typer.BadParameter("goes with --dry-run", param_hint="--device")
    if gpus > 1 and device is None:
        raise typer.BadParameter("goes with --device", param_hint="--gpus")
    ctx = loading.context(file, set_, build, heal=heal, on=on)
    if dry_run:
        _dry_run(ctx, until, only, json, device, gpus)
    else:
        _run(ctx, until, only, json)


def _dry_run(
    ctx: Context, until: str | None, only: str | None, json: bool, device: str | None, gpus: int
) -> None:
    from puzzledsl.pipeline.planning.dry_run import dry_run

    found = dry_run(ctx, until, only, None if device is None else _device(device, gpus))
    if json:
        loading.print_json(found.as_json())
    else:
        print(found.as_text())


def _device(name: str, gpus: int) -> Device:
    from puzzledsl.checker.check import shipped_profiles
    from puzzledsl.plan.memory.stage_plan import device_of

    profiles = shipped_profiles()
    if name not in profiles:
        known = ", ".join(profiles)
        raise typer.BadParameter(f"`{name}` is no profile; profiles: {known}", param_hint="--device")
    return device_of(profiles[name], gpus, name)


def _run(ctx: Context, until: str | None, only: str | None, json: bool) -> None:
    from puzzledsl.base.diagnostics import Diagnostic, DiagnosticError
    from puzzledsl.base.render import to_json
    from puzzledsl.pipeline.execute import TasksFailed, is_wanted, run_all
    from puzzledsl.pipeline.process.reporter import Reporter
    from puzzledsl.pipeline.text.evaluation_text import doubtful_timings, drifted_parents, ending_of, remarks
    from puzzledsl.pipeline.text.refined_text import evaluations_of, summary

    failed, ends = list[Diagnostic](), list[Diagnostic]()
    with Reporter(ctx.build.log) as progress:
        ctx.progress = progress
        try:
            run_all(ctx, until, only, progress.say)
        except TasksFailed as error:
            failed = list(error.diagnostics)
    doubts = doubtful_timings(ctx, list(ctx.program.spaces)) if is_wanted("measure", until, only) else []
    if is_wanted("eval", until, only):
        evals = list(ctx.program.evals)
        doubts += [*remarks(ctx, evals), *drifted_parents(ctx, evals)]
        ends = ending_of(ctx, evals)
    missed = [problem for problem in ends if problem.severity == "error"]
    if json:
        found = to_json([*failed, *ends, *doubts])["diagnostics"]
        loading.print_json({"evaluations": evaluations_of(ctx), "diagnostics": found})
    else:
        print(summary(ctx, lambda stage: is_wanted(stage, until, only)))
        loading.print_diagnostics([*doubts, *(problem for problem in ends if problem not in missed)], {})
    if failed or missed:
        raise DiagnosticError(*failed, *missed)


def status(
    file: FileArgument,
    build: BuildOption = None,
    set_: SetOption = None,
    json: JsonOption = False,
    heal: HealOption = True,
) -> None:
    """Show the state of every task of the program, with the reason. Changes nothing.

    `missing`: never made. `stale`: its inputs or its files have changed, or it depends on a task that is stale. `failed`:
    it failed when it was last tried. `pzl run` runs all of these.
    """
    from puzzledsl.pipeline.planning.dry_run import status_json, table
    from puzzledsl.pipeline.planning.status import statuses
    from puzzledsl.pipeline.process.locks import at_work

    ctx = loading.context(file, set_, build, heal=heal)
    found, holder = list(statuses(ctx)), at_work(ctx.build.root)
    if json:
        working = None if holder is None else holder.model_dump()
        texts = {
            name: [counts.model_dump(mode="json", exclude={"source"}) for counts in of_data]
            for name, of_data in _counts(ctx).items()
        }
        loading.print_json({"at_work": working, "tasks": [status_json(s) for s in found], "texts": texts})
        return
    if holder is not None:
        print(f"at work here: {holder}\n")
    rows = [(s.task.title, s.word, s.why) for s in found]
    print("\n".join(table(("task", "state", "why"), rows)))
    undone = sum(s.word != "done" for s in found)
    print(f"\n{undone} of {len(found)} to do" if undone else f"\nall {len(found)} done")


def _counts(ctx: Context) -> dict[str, tuple[TextCounts, ...]]:
    """Return the counts of the texts that are tokenised, by their declaration."""
    from puzzledsl.data.counts import counts_in

    return counts_in(ctx.build.tokens, ctx.program.data)
