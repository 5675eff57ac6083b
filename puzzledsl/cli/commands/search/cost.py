"""`pzl cost`: time and bytes of every layer in every scenario. Loads no torch."""

from __future__ import annotations

import sys
from pathlib import Path
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
    plot: Annotated[
        Path | None,
        typer.Option("--plot", metavar="FILE", help="Also draw it, as .svg or .html (one scenario)."),
    ] = None,
    build: BuildOption = None,
    set_: SetOption = None,
    json: JsonOption = False,
) -> None:
    """Show what each layer costs in each scenario, and the shares of time and bytes.

    Without --solution the parents are shown. Needs no weights. Measured scenarios appear after `pzl measure`.
    """
    from puzzledsl.base.files import write_text
    from puzzledsl.cli import loading, output
    from puzzledsl.costs.breakdown_svg import as_html, as_svg
    from puzzledsl.costs.breakdown_text import as_text
    from puzzledsl.pipeline.text.breakdowns import breakdowns

    if plot is not None and plot.suffix not in (".svg", ".html"):
        raise typer.BadParameter(f"`{plot}` is neither .svg nor .html", param_hint="--plot")
    ctx = loading.context(file, set_, build)
    found = breakdowns(ctx, solution, scenario or ())
    if plot is not None:
        if len(found) != 1:
            named = ", ".join(one.scenario for one in found)
            raise typer.BadParameter(f"choose one of {named} with --scenario", param_hint="--plot")
        write_text(plot, as_svg(found[0]) if plot.suffix == ".svg" else as_html(found[0]))
    if json:
        output.print_json([one.as_json() for one in found])
    else:
        print("\n\n".join(map(as_text, found)))
    if plot is not None:
        print(f"drew {plot}", file=sys.stderr)
