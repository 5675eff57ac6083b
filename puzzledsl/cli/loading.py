"""Turn command-line arguments into a checked program and a run context. Diagnostics end the command with exit code 1."""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

import typer

from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.base.progress import Progress
from puzzledsl.checker.program import Checked, check_file
from puzzledsl.pipeline.context import Context


def settings_of(pairs: list[str] | None) -> dict[str, str]:
    """`--set NAME=VALUE` pairs as a dictionary; a pair without `=` is a usage error (exit 2)."""
    settings = {}
    for pair in pairs or []:
        name, equals, value = pair.partition("=")
        if not equals or not name.strip():
            raise typer.BadParameter(f"`{pair}` is not NAME=VALUE", param_hint="--set")
        settings[name.strip()] = value.strip()
    return settings


def check(file: Path, pairs: list[str] | None) -> Checked:
    """Check a file, printing its diagnostics; exits with 1 when there are errors."""
    from puzzledsl.cli.output import look_in, print_diagnostics

    look_in(file.parent)
    checked = check_file(file, settings_of(pairs))
    if checked.diagnostics:
        print_diagnostics(checked.diagnostics, checked.sources)
    if checked.program is None:
        raise typer.Exit(1)
    return checked


def context(
    file: Path,
    pairs: list[str] | None,
    build: Path | None,
    progress: Progress | None = None,
) -> Context:
    """A run context for a checked file. Spaces that `used_by` narrows are narrowed where their search is solved."""
    from puzzledsl.pipeline.opening import context_of

    result = context_of(file, check(file, pairs), build)
    if progress is not None:
        result.progress = progress
    return result


def fail(error: DiagnosticError, sources: dict[str, str]) -> NoReturn:
    """Print an error's diagnostics and exit with 1."""
    from puzzledsl.cli.output import print_diagnostics

    print_diagnostics(error.diagnostics, sources)
    raise typer.Exit(1)
