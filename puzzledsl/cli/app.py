"""The typer application: `pzl COMMAND FILE`. A command is imported when it is named, all of them for `pzl --help`."""

from __future__ import annotations

from importlib import import_module
from typing import Annotated, Any

import typer

from puzzledsl.base.version import __version__
from puzzledsl.cli.help import PANELS, epilog
from puzzledsl.cli.typer_private import Command, Group

COMMANDS = {name: place for commands in PANELS.values() for name, place in commands.items()}


class ByPanel(Group):
    """A group whose help lists the commands under their headings."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write every heading with its commands and the first sentence of each."""
        for panel, names in PANELS.items():
            with formatter.section(panel):
                formatter.write_dl([(name, self.commands[name].get_short_help_str(200)) for name in names])


def application(word: str = "") -> typer.Typer:
    """Return the application with the command `word` alone; with all commands if there is no such command."""
    known = word in COMMANDS
    # rich takes longer to import than all else that `pzl --help` does
    app = typer.Typer(
        name="pzl",
        cls=ByPanel,
        no_args_is_help=True,
        add_completion=not known,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
        help="Search inference-optimised LLMs, declared in one `.pzl` file.\n\n"
        "Write what each layer may become, where the child must run and what it must achieve; `pzl run FILE` does the rest:\n"
        "compile, measure, bld (make the pieces), score, solve, refine, realise (assemble the child), uptrain, eval, report.",
        epilog="Exit codes: 0 done; 1 a mistake in the program or its inputs; 2 usage; 70 a fault of pzl; 130 interrupted.",
    )
    app.callback()(_root)
    for name in [word] if known else COMMANDS:
        module, _, function = COMMANDS[name].partition(":")
        command = getattr(import_module(f"puzzledsl.cli.commands.{module}"), function)
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=name)
        else:
            app.command(name, cls=Command, epilog=epilog(name))(command)
    return app


def _version(wanted: bool) -> None:
    if wanted:
        print(f"pzl {__version__}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass
