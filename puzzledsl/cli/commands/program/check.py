"""`pzl check`: report every mistake of a program, as text, JSON or SARIF, and apply the safe fixes."""

from __future__ import annotations

import sys
from dataclasses import replace
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from puzzledsl.cli.loading import FileArgument, SetOption

if TYPE_CHECKING:
    from puzzledsl.checker.check import Checked


class Format(StrEnum):
    """Output formats of diagnostics."""

    human = "human"
    json = "json"
    sarif = "sarif"


def check(
    file: FileArgument,
    set_: SetOption = None,
    format_: Annotated[
        Format,
        typer.Option(
            "--format",
            metavar="human|json|sarif",
            help="human: for reading, on stderr. json, sarif: one document on stdout.",
        ),
    ] = Format.human,
    json: Annotated[bool, typer.Option("--json", help="Short for --format json.")] = False,
    fix: Annotated[
        bool,
        typer.Option(
            "--fix", help="Apply the safe fixes to the files, then report the remaining diagnostics."
        ),
    ] = False,
    deny: Annotated[
        list[str] | None,
        typer.Option(
            "--deny",
            metavar="warnings|CODE",
            help="Exit with 1 also for warnings, or for the warnings of one code. May be repeated.",
        ),
    ] = None,
    allow: Annotated[
        list[str] | None,
        typer.Option(
            "--allow",
            metavar="CODE",
            help="Leave out the warnings of one code, also with `--deny warnings`: W1209 where the texts are not. "
            "May be repeated.",
        ),
    ] = None,
) -> None:
    """Check a program: names, types, units, spaces and searches. Every mistake is reported, in one run.

    Needs no weights, no GPU and no network. Warnings alone exit with 0; `pzl explain CODE` says more about a code.
    """
    from puzzledsl.cli import loading

    wanted = Format.json if json else format_
    denied, allowed = _warnings(deny or [], "--deny"), _warnings(allow or [], "--allow")
    if both := sorted(denied & allowed):
        raise typer.BadParameter(f"`{both[0]}` is denied as well", param_hint="--allow")
    settings = loading.settings_of(set_)
    from puzzledsl.checker.check import inspect

    if fix:
        from puzzledsl.cli.apply_fixes import FixRun

        fix_run = FixRun(file, settings)
        fix_run.run()
        fix_run.write()
        for made in fix_run.made:
            print(made, file=sys.stdout if wanted is Format.human else sys.stderr)
    checked, context = inspect(file, settings)
    if context is not None and checked.program is not None:
        from puzzledsl.cli.check_warnings import check_warnings

        found = check_warnings(context, checked.program, {d.span for d in checked.diagnostics})
        checked = replace(checked, diagnostics=(*checked.diagnostics, *found))
    if allowed:
        kept = tuple(d for d in checked.diagnostics if d.severity != "warning" or d.code not in allowed)
        checked = replace(checked, diagnostics=kept)
    _print(checked, wanted)
    refused = [d for d in checked.diagnostics if d.severity == "warning" and denied & {"warnings", d.code}]
    if checked.program is None or refused:
        raise typer.Exit(1)
    if wanted is Format.human:
        print(f"{file}: no errors")


def _print(checked: Checked, wanted: Format) -> None:
    from puzzledsl.cli import output

    match wanted:
        case Format.human:
            if checked.diagnostics:
                output.print_diagnostics(checked.diagnostics, checked.sources)
        case Format.json:
            from puzzledsl.base.render import to_json

            output.print_json(to_json(checked.diagnostics))
        case Format.sarif:
            from puzzledsl.base.sarif import to_sarif

            output.print_json(to_sarif(checked.diagnostics))


def _warnings(what: list[str], option: str) -> set[str]:
    """Validate the values of `--deny` or `--allow`: codes of warnings; `warnings` to deny all. Others are a usage error."""
    every = ["warnings"] if option == "--deny" else []
    if not what or what == every:
        return set(what)
    from puzzledsl.base.phrases import closest
    from puzzledsl.cli.completion import all_codes

    known = [*every, *(code for code, kind in all_codes().items() if kind.severity == "warning")]
    for word in what:
        if word not in known:
            near = closest(word, known)
            help = f"; did you mean `{near}`?" if near else f": write {', '.join(known)}"
            raise typer.BadParameter(f"`{word}` is no warning{help}", param_hint=option)
    return set(what)
