"""`%load_ext puzzledsl` and the cell magic `%%pzl`. IPython is not imported: it hands its shell over."""

from __future__ import annotations

import shlex
from typing import Any, Protocol

from puzzledsl.api.loading import parse
from puzzledsl.api.program import Program


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
