"""`pzl compile`: write the IR, the BLD jobs, the cost tables and the CP-SAT model of a program. Loads no torch."""

from __future__ import annotations

from dataclasses import asdict

from puzzledsl.cli.loading import BuildOption, FileArgument, JsonOption, SetOption


def compile_(
    file: FileArgument, build: BuildOption = None, set_: SetOption = None, json: JsonOption = False
) -> None:
    """Compile a program: IR, BLD plan, cost tables, and the CP-SAT model if scores exist.

    Writes ir.json, bld/NAME.jsonl (one job a line), costs/SPACE.json and search/NAME.pb into the build directory.
    """
    from puzzledsl.cli import loading, output
    from puzzledsl.pipeline.compile import compile_program

    ctx = loading.context(file, set_, build)
    compiled = compile_program(ctx)
    if json:
        output.print_json(asdict(compiled))
    else:
        print(compiled.as_text())
