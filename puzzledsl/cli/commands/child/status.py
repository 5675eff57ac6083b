"""`pzl status`: the state of every task of a program with its reason, or the task that made a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from puzzledsl.cli.loading import BuildOption, FileArgument, HealOption, JsonOption, SetOption

if TYPE_CHECKING:
    from puzzledsl.ir.tables import TextCounts
    from puzzledsl.pipeline.context import Context
    from puzzledsl.pipeline.stamps import Stamp


def status(
    file: FileArgument,
    build: BuildOption = None,
    set_: SetOption = None,
    json: JsonOption = False,
    made_by: Annotated[
        Path | None,
        typer.Option(
            "--made-by", metavar="PATH", help="Show only the task that made this file of the build directory."
        ),
    ] = None,
    heal: HealOption = True,
) -> None:
    """Show the state of every task of the program, with the reason. Changes nothing.

    `missing`: never made. `stale`: its inputs or its files have changed, or it depends on a task that is stale. `failed`:
    it failed when it was last tried. `pzl run` runs all of these.
    """
    from puzzledsl.cli import loading

    ctx = loading.context(file, set_, build, heal=heal)
    if made_by is None:
        _print_status(ctx, json)
    else:
        _print_maker(ctx, made_by, json)


def _print_status(ctx: Context, json: bool) -> None:
    from puzzledsl.cli import output
    from puzzledsl.pipeline.planning.dry_run import status_json, table
    from puzzledsl.pipeline.planning.status import statuses
    from puzzledsl.pipeline.process.locks import at_work

    found, holder = list(statuses(ctx)), at_work(ctx.build.root)
    if json:
        working = None if holder is None else holder.model_dump()
        texts = {
            name: [counts.model_dump(mode="json", exclude={"source"}) for counts in of_data]
            for name, of_data in _counts(ctx).items()
        }
        output.print_json({"at_work": working, "tasks": [status_json(s) for s in found], "texts": texts})
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


def _print_maker(ctx: Context, path: Path, json: bool) -> None:
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
