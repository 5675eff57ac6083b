"""`pzl run` and `pzl status`: execute all stages of a program, or show the state of each with its reason."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from puzzledsl.cli.options import BuildOption, FileArgument, HealOption, JsonOption, OnOption, SetOption

if TYPE_CHECKING:
    from puzzledsl.pipeline.context import Context
    from puzzledsl.pipeline.stamps import Stamp


def register(app: typer.Typer) -> None:
    """Add these commands to the application."""
    app.command("run")(run)
    app.command("status")(status)


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
        ),
    ] = None,
    only: Annotated[
        str | None,
        typer.Option("--only", metavar="STAGE", help="Do this stage alone, with what the others have left."),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Do nothing; say what would be done, how long and how big it will be."
        ),
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="With --dry-run: one JSON document.")] = False,
    heal: HealOption = True,
    on: OnOption = None,
) -> None:
    """Do everything the program declares that is not done yet, in order.

    Interrupt it at any moment (Ctrl-C), or kill it: what is finished is kept, and the same command goes on from there.
    """
    from puzzledsl.cli import loading
    from puzzledsl.pipeline.task import STAGES

    for option, stage in (("--until", until), ("--only", only)):
        if stage is not None and stage not in STAGES:
            raise typer.BadParameter(f"`{stage}` is no stage; stages: {', '.join(STAGES)}", param_hint=option)
    if until is not None and only is not None:
        raise typer.BadParameter("give --until or --only, not both", param_hint="--only")
    if json and not dry_run:
        raise typer.BadParameter("goes with --dry-run", param_hint="--json")
    ctx = loading.context(file, set_, build)
    ctx.heal, ctx.on = heal, on
    if dry_run:
        _say_what_would_be_done(ctx, until, only, json)
    else:
        _run(ctx, until, only)


def _say_what_would_be_done(ctx: Context, until: str | None, only: str | None, json: bool) -> None:
    from puzzledsl.cli import output
    from puzzledsl.pipeline.planning.dry_run import plan

    planned = plan(ctx, until, only)
    if json:
        output.print_json(planned.as_json())
    else:
        print(planned.as_text())


def _run(ctx: Context, until: str | None, only: str | None) -> None:
    from puzzledsl.base.diagnostics import DiagnosticError
    from puzzledsl.cli import loading
    from puzzledsl.cli.output import print_diagnostics
    from puzzledsl.pipeline.process.reporter import Reporter
    from puzzledsl.pipeline.run_all import is_wanted, run_everything
    from puzzledsl.pipeline.text.evaluation_text import disagreeing_texts
    from puzzledsl.pipeline.text.summary import summary

    try:
        with Reporter(ctx.build.log) as progress:
            ctx.progress = progress
            run_everything(ctx, until, only, progress.say)
    except DiagnosticError as error:
        loading.fail(error, {})
    print(summary(ctx, lambda stage: is_wanted(stage, until, only)))
    if is_wanted("eval", until, only):
        print_diagnostics(disagreeing_texts(ctx, list(ctx.program.evals)), {})


def status(
    file: FileArgument,
    build: BuildOption = None,
    set_: SetOption = None,
    json: JsonOption = False,
    made_by: Annotated[
        Path | None,
        typer.Option(
            "--made-by", metavar="PATH", help="Say instead which task made a file of the build directory."
        ),
    ] = None,
    heal: HealOption = True,
) -> None:
    """Say of everything the program declares whether it is done, and if it is not, why. Changes nothing.

    `missing` was never made; `stale` would be made again: its inputs changed, its files did, or it follows something
    that is. `pzl run` does all of them.
    """
    from puzzledsl.cli import loading

    ctx = loading.context(file, set_, build)
    ctx.heal = heal
    if made_by is None:
        _say_status(ctx, json)
    else:
        _say_maker(ctx, made_by, json)


def _say_status(ctx: Context, json: bool) -> None:
    from puzzledsl.cli import output
    from puzzledsl.pipeline.planning.dry_run import status_json, table
    from puzzledsl.pipeline.planning.status import statuses
    from puzzledsl.pipeline.process.locks import at_work

    found, holder = list(statuses(ctx)), at_work(ctx.build.root)
    if json:
        working = None if holder is None else holder.model_dump()
        output.print_json({"at_work": working, "tasks": [status_json(s) for s in found]})
        return
    if holder is not None:
        print(f"at work here: {holder}\n")
    rows = [(s.task.title, s.word, s.why) for s in found]
    print("\n".join(table(("task", "state", "why"), rows)))
    undone = sum(s.word != "done" for s in found)
    print(f"\n{undone} of {len(found)} to do" if undone else f"\nall {len(found)} done")


def _say_maker(ctx: Context, path: Path, json: bool) -> None:
    from puzzledsl.cli import output

    stamp = ctx.stamps.maker_of(path)
    if stamp is None:
        raise typer.BadParameter(f"no task left `{path}`", param_hint="--made-by")
    whole = ctx.stamps.vouches(stamp.stage, stamp.name, path)
    if json:
        inputs, by = stamp.inputs, stamp.made_by
        output.print_json(
            {"stage": stamp.stage, "name": stamp.name, "made_by": by, "inputs": inputs, "unchanged": whole}
        )
        return
    print("\n".join(_maker_lines(stamp, path, whole)))


def _maker_lines(stamp: Stamp, path: Path, whole: bool) -> list[str]:
    from puzzledsl.pipeline.planning.status import MEANINGS

    state = "as it left it" if whole else "changed or damaged since"
    lines = [f"{path}: made by `{stamp.title}`, {stamp.made_by}; {state}", "from"]
    width = max((len(name) for name in stamp.inputs), default=0)
    return lines + [
        f"  {name.ljust(width)}  {digest[:16]}  {MEANINGS.get(name, '')}".rstrip()
        for name, digest in stamp.inputs.items()
    ]
