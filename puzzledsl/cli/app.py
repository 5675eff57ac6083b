"""The typer application: `pzl COMMAND FILE`."""

from __future__ import annotations

from typing import Annotated

import typer

from puzzledsl.base.version import __version__
from puzzledsl.cli.command_help import teach
from puzzledsl.cli.commands import (
    cost,
    fmt,
    import_results,
    library,
    lsp,
    run,
    solve,
    stages,
    verify_export,
    watch,
)

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


fmt.register(app)
cost.register(app)
solve.register(app)
watch.register(app)
import_results.register(app)
library.register(app)
stages.register(app)
run.register(app)
verify_export.register(app)
lsp.register(app)
teach(app)
