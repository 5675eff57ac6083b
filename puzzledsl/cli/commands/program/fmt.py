"""`pzl fmt`: format programs in place, or say which would change. Loads no torch."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer


def fmt(
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE...", help="Programs to format in place."),
    ],
    check: Annotated[
        bool,
        typer.Option("--check", help="Write nothing; exit with 1 if a file would change."),
    ] = False,
    diff: Annotated[bool, typer.Option("--diff", help="Write nothing; print what would change.")] = False,
) -> None:
    """Format programs in place. A file with syntax errors is left as it is."""
    import difflib

    from puzzledsl.base.diagnostics import Sink
    from puzzledsl.base.files import write_text
    from puzzledsl.cli import output
    from puzzledsl.syntax.format import format_source
    from puzzledsl.syntax.parse import parse, read_source

    bad = changed = False
    for file in files:
        sink = Sink()
        text = read_source(file, sink)
        if text is not None:
            parse(text, str(file), sink)
        if text is None or sink.has_errors:
            output.print_diagnostics(sink, {} if text is None else {str(file): text})
            bad = True
            continue
        formatted = format_source(text)
        if formatted == text:
            continue
        changed = True
        if diff:
            lines = text.splitlines(True), formatted.splitlines(True)
            sys.stdout.writelines(difflib.unified_diff(*lines, str(file), f"{file} (formatted)"))
        elif check:
            print(f"would reformat {file}")
        else:
            write_text(file, formatted)
            print(f"reformatted {file}")
    if bad or (changed and (check or diff)):
        raise typer.Exit(1)
