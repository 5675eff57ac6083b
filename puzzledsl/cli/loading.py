"""Turn command-line arguments into a checked program and a run context. Diagnostics end the command with exit code 1."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from puzzledsl.base.diagnostics import Diagnostic
    from puzzledsl.checker.check import Checked
    from puzzledsl.pipeline.context import Context


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
