"""The typer application: `pzl COMMAND FILE`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

from puzzledsl.base.version import __version__
from puzzledsl.cli.commands import stages
from puzzledsl.cli.commands.child.library import library
from puzzledsl.cli.commands.child.run import run
from puzzledsl.cli.commands.child.status import status
from puzzledsl.cli.commands.child.verify_export import verify_export
from puzzledsl.cli.commands.program.check import check
from puzzledsl.cli.commands.program.explain import explain
from puzzledsl.cli.commands.program.fmt import fmt
from puzzledsl.cli.commands.program.import_ import import_
from puzzledsl.cli.commands.program.lsp import lsp
from puzzledsl.cli.commands.program.new import new
from puzzledsl.cli.commands.program.plan import plan
from puzzledsl.cli.commands.program.schema import schema
from puzzledsl.cli.commands.program.show import show
from puzzledsl.cli.commands.search.calibrate import calibrate
from puzzledsl.cli.commands.search.compile import compile_
from puzzledsl.cli.commands.search.cost import cost
from puzzledsl.cli.commands.search.frontier import frontier
from puzzledsl.cli.commands.search.solve import solve
from puzzledsl.cli.commands.search.watch import watch
from puzzledsl.cli.commands.search.why import why
from puzzledsl.cli.help import add_help

COMMANDS: dict[str, Callable[..., None]] = {
    "new": new,
    "check": check,
    "explain": explain,
    "show": show,
    "fmt": fmt,
    "plan": plan,
    "lsp": lsp,
    "schema": schema,
    "compile": compile_,
    "cost": cost,
    "calibrate": calibrate,
    "solve": solve,
    "why": why,
    "watch": watch,
    "frontier": frontier,
    "run": run,
    "status": status,
    "verify-export": verify_export,
}
"""Name -> function. The stages' commands are in stages/; `import` and `library` are groups."""

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


for name, command in COMMANDS.items():
    app.command(name)(command)
stages.register(app)
app.add_typer(import_, name="import")
app.add_typer(library, name="library")
add_help(app)
