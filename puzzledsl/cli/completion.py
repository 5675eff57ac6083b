"""Shell completion, and the registry of every diagnostic of all stages, without loading the stages' libraries.

A diagnostic stands in the module that reports it, or, if that loads a heavy library, in an `errors` module beside it. Stages are
the pipeline's tasks, and a stage's command takes declarations of the kind that its task is of.
"""

from __future__ import annotations

import importlib
import os
import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import typer

import puzzledsl
from puzzledsl.base.diagnostics import Diagnostic

if TYPE_CHECKING:
    from puzzledsl.syntax import tree


_DEFINITION = re.compile(r'^class \w+\(\w+, code="', re.MULTILINE)


@cache
def all_codes() -> dict[str, type[Diagnostic]]:
    """Code -> class, in the order of the codes."""
    root = Path(puzzledsl.__file__).parent
    for path in sorted(root.glob("**/*.py")):
        if _DEFINITION.search(path.read_text("utf-8")):
            importlib.import_module(".".join(("puzzledsl", *path.relative_to(root).with_suffix("").parts)))
    ours = {c: kind for c, kind in Diagnostic.registry.items() if kind.__module__.startswith("puzzledsl.")}
    return dict(sorted(ours.items(), key=lambda item: (item[0][1:], item[0])))


MEASURED = "measured"
"""The hardware of a program that times blocks on this machine."""
KINDS = {"show": "space", "why": "search", "explore": "search", "frontier": "frontier"}
"""Command that is no stage -> the kind of the declarations that it takes."""
Completer = TypeVar("Completer")
_STD_PARENT = re.compile(r"^# ([\w-]+/[\w.-]+)\n(?:#.*\n)*let (\w+) = ", re.MULTILINE)


def if_asked(completer: Completer) -> Completer | None:
    """Return the function if a shell asks for completions, else None: typer inspects each one at every start."""
    asked = any(name.startswith("_") and name.endswith("_COMPLETE") for name in os.environ)
    return completer if asked else None


def std_parents() -> dict[str, str]:
    """Return the shapes of std/parents.pzl: name -> hub id."""
    from puzzledsl.base.resources import resource

    text = resource("spaces", "std/parents.pzl").read_text("utf-8")
    return {name: id for id, name in _STD_PARENT.findall(text)}


def std_hardware() -> list[str]:
    """Return the names of the profiles in std/hardware.pzl."""
    from puzzledsl.base.resources import resource

    text = resource("spaces", "std/hardware.pzl").read_text("utf-8")
    return re.findall(r"^hardware (\w+)", text, re.MULTILINE)


def complete_code(incomplete: str) -> list[tuple[str, str]]:
    """Return the codes that start with `incomplete`, each with its summary."""
    return [
        (code, (kind.__doc__ or "").split("\n", 1)[0])
        for code, kind in all_codes().items()
        if code.startswith(incomplete.upper())
    ]


def complete_parent(incomplete: str) -> list[tuple[str, str]]:
    """Return the shapes of std/parents.pzl that start with `incomplete`, each with its hub id."""
    return [(name, id) for name, id in std_parents().items() if name.startswith(incomplete)]


def complete_hardware(incomplete: str) -> list[str]:
    """Return `measured` and the profiles of std/hardware.pzl that start with `incomplete`."""
    return [name for name in (MEASURED, *std_hardware()) if name.startswith(incomplete)]


def complete_stage(incomplete: str) -> list[tuple[str, str]]:
    """Return the stages of a run that start with `incomplete`, each with what it does."""
    from puzzledsl.pipeline.tasks import TASKS

    found = {stage: (task.__doc__ or "").split("\n", 1)[0] for stage, task in TASKS.items()}
    return [(stage, doc) for stage, doc in found.items() if stage.startswith(incomplete)]


def complete_setting(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Return `NAME=` of each parameter of the program, with its type and default; behind `NAME=` its words."""
    from puzzledsl.syntax import tree

    items, lines = _items(ctx)
    params = [item for item in items if isinstance(item, tree.Param)]
    name, equals, value = incomplete.partition("=")
    if equals:
        words = [word.text for param in params if param.name.text == name for word in param.words]
        return [(f"{name}={word}", "") for word in words if word.startswith(value)]
    found: list[tuple[str, str]] = []
    for param in params:
        kind = " | ".join(word.text for word in param.words) or param.type.text
        default = "" if param.default is None else f" = {' '.join(param.default.span.cut(lines).split())}"
        if param.name.text.startswith(name):
            found.append((f"{param.name.text}=", kind + default))
    return found


def complete_declaration(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Return the declarations that the command takes, without those that are named already, with their comments."""
    from puzzledsl.syntax import tree

    kind = _kind_of(ctx.info_name or "")
    given = {word for value in ctx.params.values() if isinstance(value, list | tuple) for word in value}
    return [
        (item.name.text, item.doc.split("\n", 1)[0])
        for item in _items(ctx)[0]
        if isinstance(item, tree.Decl)
        and item.kind.text == kind
        and item.name.text.startswith(incomplete)
        and item.name.text not in given
    ]


def _kind_of(command: str) -> str:
    if command in KINDS:
        return KINDS[command]
    from puzzledsl.pipeline.tasks import TASKS

    return TASKS[command].kind if command in TASKS else ""


def _items(ctx: typer.Context) -> tuple[tuple[tree.Item, ...], list[str]]:
    """Return the declarations of the program on the command line and its lines; none of one that cannot be read.

    Behind an option that lacks its value, the words before it are not sorted into arguments yet.
    """
    from puzzledsl.base.diagnostics import Sink
    from puzzledsl.syntax.parse import parse, read_source

    file = ctx.params.get("file") or next((word for word in ctx.args if word.endswith(".pzl")), None)
    text = read_source(Path(file), Sink()) if file else None
    return ((), []) if text is None else (parse(text, str(file), Sink()).items, text.split("\n"))
