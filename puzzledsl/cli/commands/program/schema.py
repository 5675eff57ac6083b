"""`pzl schema`: print the JSON schema of a file of the build directory or of a `--json` output."""

from __future__ import annotations

from typing import Annotated

import typer


def schema(
    name: Annotated[
        str,
        typer.Argument(
            metavar="[NAME]", help="A file's or an output's name, as `--list` shows.", show_default=False
        ),
    ] = "ir",
    list_: Annotated[
        bool, typer.Option("--list", help="List the names, with the file or command of each.")
    ] = False,
) -> None:
    """Print the JSON schema of a file of the build directory, or of what a command prints with `--json`.

    Without a name that of the IR (build/ir.json). docs/artefacts.md describes them all.
    """
    from puzzledsl.cli.output import print_json
    from puzzledsl.cli.schemas.registry import DESCRIBED

    if list_:
        width = max(map(len, DESCRIBED))
        for each in DESCRIBED.values():
            place = f"{each.place} --json" if each.is_output else f"build/{each.place}"
            print(f"{each.name:<{width}}  {place}  ({each.form})")
        return
    if name not in DESCRIBED:
        from puzzledsl.base.phrases import closest

        near = closest(name, DESCRIBED)
        help = f"did you mean `{near}`?" if near else "`pzl schema --list` lists the names"
        raise typer.BadParameter(f"no schema is called `{name}`; {help}", param_hint="NAME")
    print_json(DESCRIBED[name].schema())
