"""`pzl plan OLD NEW`: what changes between two programs, before anything is run."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from puzzledsl.cli.loading import JsonOption, SetOption

if TYPE_CHECKING:
    from puzzledsl.ir.nodes import Program

EXIT_CHANGES = 2


def plan(
    old: Annotated[Path, typer.Argument(metavar="OLD", help="A program, a build directory or an ir.json.")],
    new: Annotated[Path, typer.Argument(metavar="NEW", help="The same, after the change.")],
    set_: SetOption = None,
    json: JsonOption = False,
    detailed_exitcode: Annotated[
        bool,
        typer.Option("--detailed-exitcode", help="Exit with 0 if nothing changes, with 2 if something does."),
    ] = False,
) -> None:
    """List the changes from OLD to NEW: declarations, alternatives, requirements, pieces to make, stages to run again.

    `+` is new, `-` is gone, `~` is changed. Order, comments and line numbers make no difference.
    `--set` applies to NEW.
    """
    from puzzledsl.cli import output
    from puzzledsl.pipeline.planning.status import compare

    before, after = _program(old, None), _program(new, set_)
    changes = compare(before, after)
    if json:
        output.print_json(changes.as_json())
    else:
        from puzzledsl.changes.text import as_text

        print(as_text(changes, color=output.use_color(sys.stdout)))
    if detailed_exitcode and changes:
        raise typer.Exit(EXIT_CHANGES)


def _program(path: Path, pairs: list[str] | None) -> Program:
    """A program from source, or as it was compiled. Raises DiagnosticError where there is none."""
    if path.is_dir():
        path = path / "ir.json"
        if not path.is_file():
            path = path.parent / "build" / "ir.json"
    if path.suffix == ".json":
        return _compiled(path)
    from puzzledsl.cli import loading

    program = loading.check(path, pairs).program
    assert program is not None
    return program


def _compiled(path: Path) -> Program:
    from puzzledsl.base.diagnostics import DiagnosticError
    from puzzledsl.ir.nodes import Program
    from puzzledsl.pipeline.errors import NotCompiled

    try:
        return Program.from_json(path.read_bytes())
    except OSError as error:
        raise DiagnosticError(NotCompiled(None, path=path, why=(error.strerror or "").lower())) from error
    except ValueError as error:
        raise DiagnosticError(NotCompiled(None, path=path, why="it is no ir.json of this version")) from error
