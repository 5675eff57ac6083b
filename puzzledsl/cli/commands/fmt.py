"""Commands on the text: check, explain, fmt, compile, schema. None of them loads torch."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from puzzledsl.cli.commands.check import check
from puzzledsl.cli.commands.explain import explain
from puzzledsl.cli.commands.new import new
from puzzledsl.cli.commands.plan import plan
from puzzledsl.cli.commands.show import show
from puzzledsl.cli.options import BuildOption, FileArgument, JsonOption, SetOption


def register(app: typer.Typer) -> None:
    """Add these commands to the application."""
    app.command("check")(check)
    app.command("explain")(explain)
    app.command("show")(show)
    app.command("new")(new)
    app.command("fmt")(fmt)
    app.command("plan")(plan)
    app.command("compile")(compile_)
    app.command("schema")(schema)


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


def compile_(
    file: FileArgument,
    build: BuildOption = None,
    set_: SetOption = None,
    json: JsonOption = False,
) -> None:
    """Compile a program: IR, BLD plan, cost tables, and the CP-SAT model where scores exist.

    Writes ir.json, bld/NAME.jsonl (one job a line), costs/SPACE.json and search/NAME.pb into the build directory.
    """
    from puzzledsl.cli import loading, output
    from puzzledsl.pipeline.compile import compile_program

    ctx = loading.context(file, set_, build)
    compiled = compile_program(ctx)
    if json:
        output.print_json(compiled.as_json())
    else:
        print(compiled.as_text())


def schema() -> None:
    """Print the JSON schema of the IR (build/ir.json)."""
    from puzzledsl.cli.output import print_json
    from puzzledsl.ir.nodes import program_schema

    print_json(program_schema())
