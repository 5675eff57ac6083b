"""`pzl cost`: time and bytes of every layer in every scenario. Loads no torch."""

from __future__ import annotations

from typing import Annotated

import typer

from puzzledsl.cli.loading import BuildOption, FileArgument, JsonOption, SetOption


def cost(
    file: FileArgument,
    solution: Annotated[
        str | None,
        typer.Option(
            "--solution", metavar="SEARCH", help="The best child of a solved search, not the parent."
        ),
    ] = None,
    scenario: Annotated[
        list[str] | None,
        typer.Option("--scenario", metavar="NAME", help="Only this scenario. May be repeated."),
    ] = None,
    build: BuildOption = None,
    set_: SetOption = None,
    json: JsonOption = False,
) -> None:
    """Show what each layer costs in each scenario, and the shares of time and bytes.

    Without --solution the parents are shown. Needs no weights. Measured scenarios appear after `pzl measure`.
    """
    from puzzledsl.cli import loading, output
    from puzzledsl.costs.breakdown_text import as_text
    from puzzledsl.pipeline.text.breakdowns import breakdowns

    ctx = loading.context(file, set_, build)
    found = breakdowns(ctx, solution, scenario or ())
    if json:
        output.print_json([one.as_json() for one in found])
    else:
        print("\n\n".join(map(as_text, found)))
