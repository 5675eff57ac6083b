"""`pzl check`: report every mistake of a program, and with `--fix` apply the safe fixes.

`pzl fmt`: format programs in place, or list those that would change (`--check`); `-` formats stdin. Loads no torch.
"""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from puzzledsl.cli import loading
from puzzledsl.cli.loading import FileArgument, JsonOption, SetOption

FIX_HELP = "Apply the safe fixes to the files, then report the remaining diagnostics."
DENY_HELP = "Exit with 1 also for warnings, or for the warnings of one code. May be repeated."
ALLOW_HELP = (
    "Leave out the warnings of one code, also with `--deny warnings`: W1209 where the texts are not. May be "
    "repeated."
)


def check(
    file: FileArgument,
    set_: SetOption = None,
    json: JsonOption = False,
    fix: Annotated[bool, typer.Option("--fix", help=FIX_HELP)] = False,
    deny: Annotated[list[str] | None, typer.Option("--deny", metavar="warnings|CODE", help=DENY_HELP)] = None,
    allow: Annotated[list[str] | None, typer.Option("--allow", metavar="CODE", help=ALLOW_HELP)] = None,
) -> None:
    """Check a program: names, types, units, spaces and searches. Every mistake is reported, in one run.

    Needs no weights, no GPU and no network. Warnings alone exit with 0; `pzl explain CODE` says more about a code.
    """
    denied, allowed = _warnings(deny or [], "--deny"), _warnings(allow or [], "--allow")
    if both := sorted(denied & allowed):
        raise typer.BadParameter(f"`{both[0]}` is denied as well", param_hint="--allow")
    settings = loading.settings_of(set_)
    from puzzledsl.checker.check import inspect

    if fix:
        from puzzledsl.cli.checking import FixRun

        fix_run = FixRun(file, settings)
        fix_run.run()
        fix_run.write()
        for made in fix_run.made:
            print(made, file=sys.stderr if json else sys.stdout)
    checked, context = inspect(file, settings)
    if context is not None and checked.program is not None:
        from puzzledsl.cli.checking import check_warnings

        found = check_warnings(context, checked.program)
        checked = replace(checked, diagnostics=(*checked.diagnostics, *found))
    if allowed:
        kept = tuple(d for d in checked.diagnostics if d.severity != "warning" or d.code not in allowed)
        checked = replace(checked, diagnostics=kept)
    if json:
        from puzzledsl.base.render import to_json

        loading.print_json(to_json(checked.diagnostics))
    elif checked.diagnostics:
        loading.print_diagnostics(checked.diagnostics, checked.sources)
    refused = [d for d in checked.diagnostics if d.severity == "warning" and denied & {"warnings", d.code}]
    if checked.program is None or refused:
        raise typer.Exit(1)
    if not json:
        print(f"{file}: no errors")


def _warnings(what: list[str], option: str) -> set[str]:
    """Return the values of `--deny` or `--allow`: codes of warnings, or `warnings` to deny all. Others are a usage error."""
    every = ["warnings"] if option == "--deny" else []
    if not what or what == every:
        return set(what)
    from puzzledsl.base.phrases import closest
    from puzzledsl.cli.commands.explain import all_codes

    known = [*every, *(code for code, kind in all_codes().items() if kind.severity == "warning")]
    for word in what:
        if word not in known:
            near = closest(word, known)
            help = f"; did you mean `{near}`?" if near else f": write {', '.join(known)}"
            raise typer.BadParameter(f"`{word}` is no warning{help}", param_hint=option)
    return set(what)


STDIN = Path("-")


FILES_HELP = "Programs to format in place; `-` reads stdin and writes stdout."
CHECK_HELP = "Write nothing; exit with 1 if a file would change."


def fmt(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help=FILES_HELP)],
    check: Annotated[bool, typer.Option("--check", help=CHECK_HELP)] = False,
) -> None:
    """Format programs in place. A file with syntax errors is left as it is."""
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
        if written is not None and not check:
            sys.stdout.flush()
            sys.stdout.buffer.write(like(written, formatted))
            continue
        if formatted == text:
            continue
        changed = True
        if check:
            print(f"would reformat {file}")
        else:
            write_bytes(file, like(file.read_bytes(), formatted))
            print(f"reformatted {file}")
    if bad or (changed and check):
        raise typer.Exit(1)


def _sound_text(file: Path, written: bytes | None) -> str | None:
    """Return a program's text; None, after printing why, if it is unreadable or has syntax errors. `written`: what stdin gave."""
    from puzzledsl.base.diagnostics import Sink
    from puzzledsl.syntax.parse import decode, parse, read_source

    sink = Sink()
    text = read_source(file, sink) if written is None else decode(written, str(file), sink)
    if text is not None:
        parse(text, str(file), sink)
    if not sink.has_errors:
        return text
    loading.print_diagnostics(sink, {} if text is None else {str(file): text})
    return None
