"""Options that several commands share, and the checked program and run context that they give.

Options that several commands share.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from puzzledsl.cli.completion import complete_declaration, complete_setting, if_asked

if TYPE_CHECKING:
    from puzzledsl.base.diagnostics import Diagnostic
    from puzzledsl.checker.check import Checked
    from puzzledsl.pipeline.context import Context


FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="The `.pzl` program.", show_default=False)]
NamesArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[NAME]...",
        help="Names of declarations. Default: all.",
        autocompletion=if_asked(complete_declaration),
    ),
]
BuildOption = Annotated[
    Path | None,
    typer.Option("-o", "--build", metavar="DIR", help="Build directory. Default: `build/` beside FILE."),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="Give a `param` another value. May be repeated.",
        autocompletion=if_asked(complete_setting),
    ),
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print one JSON document on stdout instead of text.")
]
HealOption = Annotated[
    bool,
    typer.Option(
        "--heal/--no-heal",
        help="Refit the last linear map of every sub-block to the parent's hidden states (least squares). Kept if KL on "
        "held-out text is lower. `heal` of `bld` sets the number of tokens.",
    ),
]
OnOption = Annotated[
    str | None,
    typer.Option(
        "--on",
        metavar="CLUSTER",
        help="Work on a Ray cluster: `local` (this machine's CPUs or GPUs), `auto` (the cluster of this machine), "
        "or `ray://HOST:10001`. The files are the same.",
    ),
]


def settings_of(pairs: list[str] | None) -> dict[str, str]:
    """Return `--set NAME=VALUE` pairs as a dictionary. A pair without `=` is a usage error (exit 2)."""
    settings = {}
    for pair in pairs or []:
        name, equals, value = pair.partition("=")
        if not equals or not name.strip():
            raise typer.BadParameter(f"`{pair}` is not NAME=VALUE", param_hint="--set")
        settings[name.strip()] = value.strip()
    return settings


class NotChecked(typer.Exit):
    """The end of a command whose program has mistakes, which are printed already."""

    def __init__(self, diagnostics: Sequence[Diagnostic]) -> None:
        super().__init__(1)
        self.diagnostics = diagnostics


def check(file: Path, pairs: list[str] | None) -> Checked:
    """Check a file and print its diagnostics. Exit with 1 if there are errors."""
    from puzzledsl.checker import check as checker
    from puzzledsl.cli.output import add_source_root, print_diagnostics

    add_source_root(file.parent)
    checked = checker.check(file, settings_of(pairs))
    if checked.diagnostics:
        print_diagnostics(checked.diagnostics, checked.sources)
    if checked.program is None:
        raise NotChecked(checked.diagnostics)
    return checked


def context(
    file: Path, pairs: list[str] | None, build: Path | None, *, heal: bool = True, on: str | None = None
) -> Context:
    """Return the run context of a checked file. A space with `used_by` is narrowed if its search is solved."""
    from puzzledsl.pipeline.opening import context_of

    found = context_of(file, check(file, pairs), build)
    found.heal, found.on = heal, on
    return found
