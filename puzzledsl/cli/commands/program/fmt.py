"""`pzl fmt`: format programs in place, or say which would change; `-` formats stdin. Loads no torch."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

STDIN = Path("-")


def fmt(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE...", help="Programs to format in place; `-` reads stdin and writes stdout."
        ),
    ],
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; exit with 1 if a file would change.")
    ] = False,
    diff: Annotated[bool, typer.Option("--diff", help="Write nothing; print what would change.")] = False,
) -> None:
    """Format programs in place. A file with syntax errors is left as it is."""
    import difflib

    from puzzledsl.base.files import like, write_bytes
    from puzzledsl.syntax.format import format_source

    bad = changed = False
    for file in files:
        written = sys.stdin.buffer.read() if file == STDIN else None
        text = _sound_text(file, written)
        if text is None:
            bad = True
            continue
        formatted = format_source(text)
        if written is not None and not check and not diff:
            sys.stdout.flush()
            sys.stdout.buffer.write(like(written, formatted))
            continue
        if formatted == text:
            continue
        changed = True
        if diff:
            lines = text.splitlines(True), formatted.splitlines(True)
            sys.stdout.writelines(difflib.unified_diff(*lines, str(file), f"{file} (formatted)"))
        elif check:
            print(f"would reformat {file}")
        else:
            write_bytes(file, like(file.read_bytes(), formatted))
            print(f"reformatted {file}")
    if bad or (changed and (check or diff)):
        raise typer.Exit(1)


def _sound_text(file: Path, written: bytes | None) -> str | None:
    """Return the text of a program; print its syntax errors and return None if it has any. `written`: what stdin gave."""
    from puzzledsl.base.diagnostics import Sink
    from puzzledsl.cli import output
    from puzzledsl.syntax.parse import decode, parse, read_source

    sink = Sink()
    text = read_source(file, sink) if written is None else decode(written, str(file), sink)
    if text is not None:
        parse(text, str(file), sink)
    if not sink.has_errors:
        return text
    output.print_diagnostics(sink, {} if text is None else {str(file): text})
    return None
