"""Options that several commands share, the checked program and run context made of them, and printing of results.

Results go to stdout, everything else to stderr; colour only to terminals.
"""

from __future__ import annotations

import inspect
import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import wraps
from inspect import Parameter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.models import ArgumentInfo

from puzzledsl.base.diagnostics import Diagnostic, DiagnosticError

if TYPE_CHECKING:
    from puzzledsl.checker.check import Checked
    from puzzledsl.pipeline.context import Context


_source_roots: dict[Path, None] = {}
"""Directories of the checked programs (an ordered set): files in spans of later stages are relative to one of them."""


def print_diagnostics(diagnostics: Iterable[Diagnostic], known: Mapping[str, str]) -> None:
    """Print diagnostics on stderr in source order, then a count if there are several. `known`: texts by file name."""
    from puzzledsl.base.render import counts, render, sources_for

    ordered = sorted(diagnostics, key=lambda d: d.sort_key)
    sources = sources_for(ordered, known, [Path(), *reversed(_source_roots)])
    color = sys.stderr.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    for diagnostic in ordered:
        print(render(diagnostic, sources, color=color), end="\n\n", file=sys.stderr)
    if len(ordered) > 1:
        print(counts(ordered), file=sys.stderr)


def end_with(problems: Iterable[Diagnostic]) -> None:
    """Print warnings. Raises DiagnosticError if there are errors."""
    found = list(problems)
    print_diagnostics([each for each in found if each.severity == "warning"], {})
    if errors := [each for each in found if each.severity == "error"]:
        raise DiagnosticError(*errors)


def print_json(value: object) -> None:
    """Print one JSON document on stdout."""
    json.dump(value, sys.stdout, indent=1, ensure_ascii=False)
    print()


FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="The `.pzl` program.", show_default=False)]
NAMES_HELP = "Names of declarations. Default: all."
NamesArgument = Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help=NAMES_HELP)]
BUILD_HELP = "Build directory. Default: `build/` beside FILE."
BuildOption = Annotated[Path | None, typer.Option("-o", "--build", metavar="DIR", help=BUILD_HELP)]
SET_HELP = "Give a `param` another value. May be repeated."
SetOption = Annotated[list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help=SET_HELP)]
JSON_HELP = "Print one JSON document on stdout instead of text."
JsonOption = Annotated[bool, typer.Option("--json", help=JSON_HELP)]
HEAL_HELP = (
    "Refit the last linear map of every sub-block to the parent's hidden states (least squares). Kept if KL on "
    "held-out text is lower. `heal` of `bld` sets the number of tokens."
)
ON_HELP = (
    "Work on a Ray cluster: `local` (this machine's CPUs or GPUs), `auto` (the cluster of this machine), "
    "or `ray://HOST:10001`. The files are the same."
)
SHARED: dict[str, tuple[Any, Any]] = {
    "build": (BuildOption, None),
    "set_": (SetOption, None),
    "heal": (Annotated[bool, typer.Option("--heal/--no-heal", help=HEAL_HELP)], True),
    "on": (Annotated[str | None, typer.Option("--on", metavar="CLUSTER", help=ON_HELP)], None),
}
"""Options of a run context, by parameter name: annotated type and default."""


def on_program(*options: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return a decorator that makes a function of a run context a command, whose first argument is FILE.

    The function's other parameters become arguments and options of the command. The command also takes `-o`, `--set` and the
    named `options` of SHARED ("heal", "on"), which set the run context.
    """

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        del function.__annotations__[next(iter(inspect.signature(function).parameters))]
        _, *own = inspect.signature(function, eval_str=True).parameters.values()
        first = [Parameter("file", Parameter.KEYWORD_ONLY, annotation=FileArgument)]
        first += [each for each in own if isinstance(each.annotation.__metadata__[0], ArgumentInfo)]
        shared = [
            Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=kind)
            for name, (kind, default) in SHARED.items()
            if name in ("build", "set_", *options)
        ]

        @wraps(function)
        def command(**given: Any) -> None:
            settings = {name: given.pop(name) for name in options}
            ctx = context(given.pop("file"), given.pop("set_"), given.pop("build"), **settings)
            function(ctx, **given)

        every = [*first, *shared, *(each for each in own if each not in first)]
        parameters = [each.replace(kind=Parameter.KEYWORD_ONLY) for each in every]
        vars(command).update(__signature__=inspect.Signature(parameters))
        return command

    return decorate


def show(json: bool, document: Callable[[], object], texts: Callable[[], str | Iterable[str]]) -> None:
    """Print `document()` as JSON if `json`, else `texts()`: one text, or several with empty lines between."""
    if json:
        print_json(document())
    else:
        found = texts()
        print(found if isinstance(found, str) else "\n\n".join(found))


def settings_of(pairs: list[str] | None) -> dict[str, str]:
    """Return `--set NAME=VALUE` pairs as a dictionary. A pair without `=` or without a name is a usage error (exit 2)."""
    settings = {}
    for pair in pairs or []:
        name, equals, value = pair.partition("=")
        if not equals or not name.strip():
            raise typer.BadParameter(f"`{pair}` is not NAME=VALUE", param_hint="--set")
        settings[name.strip()] = value.strip()
    return settings


class NotChecked(typer.Exit):
    """Exit with 1 of a command whose program has mistakes. They are printed already; `diagnostics` has them."""

    def __init__(self, diagnostics: Sequence[Diagnostic]) -> None:
        super().__init__(1)
        self.diagnostics = diagnostics


def check(file: Path, pairs: list[str] | None) -> Checked:
    """Check a file and print its diagnostics. `pairs`: values of `--set`. Raises NotChecked (exit 1) if there are errors."""
    from puzzledsl.checker import check as checker

    _source_roots.pop(file.parent, None)
    _source_roots[file.parent] = None  # the last program's come first
    checked = checker.check(file, settings_of(pairs))
    if checked.diagnostics:
        print_diagnostics(checked.diagnostics, checked.sources)
    if checked.program is None:
        raise NotChecked(checked.diagnostics)
    return checked


def context(
    file: Path, pairs: list[str] | None, build: Path | None, *, heal: bool = True, on: str | None = None
) -> Context:
    """Check a file as `check` does; return its run context. A space with `used_by` is narrowed if its search is solved."""
    from puzzledsl.pipeline.compile import context_of

    found = context_of(file, check(file, pairs), build)
    found.heal, found.on = heal, on
    return found
