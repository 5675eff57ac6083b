"""Where the files shipped with the package are: the grammar, the standard library of spaces, the reference of diagnostics.

An installed wheel carries them in `puzzledsl/_data`; an editable install finds the checkout's top-level folders,
which a wheel's mapping does not reach. Nothing else may know this.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

Kind = Literal["docs", "grammars", "spaces"]

_PACKAGE = Path(__file__).resolve().parent


def folder(kind: Kind) -> Path:
    """The folder of one kind of resource. Raises FileNotFoundError where the installation lacks it."""
    for candidate in (_PACKAGE / "_data" / kind, _PACKAGE.parent / kind):
        if candidate.is_dir():
            return candidate
    raise FileNotFoundError(f"this installation of puzzledsl has no {kind} folder")


def resource(kind: Kind, name: str) -> Path:
    """The path of one shipped file: `resource("spaces", "std/hardware.pzl")`.

    Raises FileNotFoundError when there is no such file, or when `name` leads out of the folder.
    """
    root = folder(kind)
    path = root / name
    if not path.resolve().is_relative_to(root.resolve()) or not path.is_file():
        raise FileNotFoundError(f"no {name!r} among the shipped {kind}")
    return path


def listing(kind: Kind, pattern: str = "**/*.pzl") -> list[str]:
    """The names of the shipped files that match a glob, sorted, with `/` between folders."""
    root = folder(kind)
    return sorted(p.relative_to(root).as_posix() for p in root.glob(pattern) if p.is_file())
