"""`pzl report`: everything in the build directory on one page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from puzzledsl.cli.options import BuildOption, FileArgument, SetOption


def report(
    file: FileArgument,
    build: BuildOption = None,
    set_: SetOption = None,
    figures: Annotated[
        Path | None,
        typer.Option("--figures", metavar="DIR", help="Write the pictures, too, as SVG and PNG for papers."),
    ] = None,
) -> None:
    """Write report.html: one self-contained page with everything that is in the build directory."""
    from puzzledsl.cli import loading
    from puzzledsl.pipeline.execute import execute
    from puzzledsl.pipeline.process.locks import locked
    from puzzledsl.pipeline.tasks.report import Report

    ctx = loading.context(file, set_, build)
    with locked(ctx):
        execute(ctx, [Report(ctx)], force=True)
        if figures is not None:
            from puzzledsl.report.artefacts import load_artefacts
            from puzzledsl.report.pictures.figures import write_figures

            for path in write_figures(load_artefacts(ctx.program, ctx.build), figures):
                print(path)
    print(ctx.build.report)
