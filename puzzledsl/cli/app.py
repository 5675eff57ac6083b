"""The typer application: `pzl COMMAND FILE`."""

from __future__ import annotations

from typing import Annotated

import typer

from puzzledsl.cli import (
    costing,
    editor,
    front,
    importing,
    running,
    shelves,
    solving,
    stages,
    verifying,
    watching,
)
from puzzledsl.cli.teaching import teach
from puzzledsl.version import __version__

app = typer.Typer(
    name="pzl",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Search inference-optimised LLMs, declared in one `.pzl` file.\n\n"
    "Write what each layer may become, where the child must run and what it must achieve; `pzl run FILE` does the rest:\n"
    "compile, measure, bld (make the pieces), score, solve, refine, realise (assemble the child), uptrain, eval, report.",
    epilog="Exit codes: 0 done; 1 a mistake in the program or its inputs; 2 usage; 70 a fault of pzl; 130 interrupted.",
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"pzl {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    pass


front.register(app)
costing.register(app)
solving.register(app)
watching.register(app)
importing.register(app)
shelves.register(app)
stages.register(app)
running.register(app)
verifying.register(app)
editor.register(app)
teach(app)
