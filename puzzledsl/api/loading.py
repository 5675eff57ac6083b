"""From a file or a text to a Program.

`%load_ext puzzledsl` and the cell magic `%%pzl`. IPython is not imported: it hands its shell over.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from puzzledsl.api.program import Program


def load(
    path: str | os.PathLike[str],
    /,
    *,
    build: str | os.PathLike[str] | None = None,
    settings: Mapping[str, object] | None = None,
    **params: object,
) -> Program:
    """Load and check a `.pzl` file.

    Needs no weights, no GPU and no network. Warnings are in `Program.diagnostics`.

    Args:
        path: The file. Relative paths in it start at its directory.
        build: The build directory, where stages leave their files. Default: `build/` beside the file.
        settings: Values for the program's `param`s, also for those that are named like an argument: `{"build": 3}`.
        **params: The same, as `--set` takes them: `speedup="1.3x"`, `layers=12`.

    Returns:
        The checked program.

    Raises:
        DiagnosticError: The program has mistakes. All of them are in `.diagnostics`.
    """
    return _opened(Path(path), None, build, {**(settings or {}), **params})


def parse(
    text: str,
    /,
    *,
    folder: str | os.PathLike[str] = ".",
    build: str | os.PathLike[str] | None = None,
    settings: Mapping[str, object] | None = None,
    **params: object,
) -> Program:
    """Check a program that is given as text.

    Args:
        text: The program.
        folder: The directory that relative paths in it start at.
        build: The build directory. Default: `build/` in `folder`.
        settings: Values for the program's `param`s, as for `load`.
        **params: The same.

    Returns:
        The checked program.

    Raises:
        DiagnosticError: The program has mistakes. All of them are in `.diagnostics`.
    """
    return _opened(Path(folder) / "program.pzl", text, build, {**(settings or {}), **params})


def _opened(
    file: Path, text: str | None, build: str | os.PathLike[str] | None, params: dict[str, object]
) -> Program:
    from puzzledsl.api.session import explained
    from puzzledsl.base.diagnostics import DiagnosticError
    from puzzledsl.pipeline.opening import open_program

    settings = {name: _setting(value) for name, value in params.items()}
    opened = open_program(file, settings, None if build is None else Path(build), text)
    if opened.context is None:
        with explained(opened.sources, file.parent):
            raise DiagnosticError(*opened.diagnostics)
    return Program(opened.context, opened.diagnostics, opened.sources)


def _setting(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


class Shell(Protocol):
    """The part of IPython's InteractiveShell that the extension uses."""

    user_ns: dict[str, Any]

    def register_magic_function(self, func: Any, magic_kind: str, magic_name: str) -> None:
        """Add a magic."""


def load_ipython_extension(shell: Shell) -> None:
    """Give a notebook the cell magic `%%pzl [NAME] [PARAM=VALUE …]`.

    The cell is a program. It is checked, kept in the variable NAME (default: `program`), and shown. Relative paths in
    it start at the notebook's directory.

    Args:
        shell: The notebook's shell; `%load_ext puzzledsl` passes it.
    """

    def pzl(line: str, cell: str) -> Program:
        name, params = _arguments(line)
        program = shell.user_ns[name] = parse(cell, settings=params)
        return program

    shell.register_magic_function(pzl, magic_kind="cell", magic_name="pzl")


def _arguments(line: str) -> tuple[str, dict[str, str]]:
    """The variable's name and the parameters. Raises ValueError for anything else."""
    names, params = [], {}
    for word in shlex.split(line):
        key, equals, value = word.partition("=")
        if equals and key.isidentifier():
            params[key] = value
        elif word.isidentifier():
            names.append(word)
        else:
            raise ValueError(f"`{word}` is neither the name of a variable nor PARAM=VALUE")
    if len(names) > 1:
        raise ValueError(f"one variable holds the program, not {' and '.join(names)}")
    return (names or ["program"])[0], params
