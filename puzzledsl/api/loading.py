"""From a file or a text to a Program."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

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
