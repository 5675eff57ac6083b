"""Files shipped with the package: the grammar, the standard library of spaces, the golden files and the reference of diagnostics.

An installed wheel contains them in `puzzledsl/_data`; an editable install uses the checkout's top-level folders,
which are outside the wheel's package mapping. No other module depends on this layout.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

Kind = Literal["docs", "errors", "grammars", "spaces"]

_PACKAGE = Path(__file__).resolve().parents[1]


def folder(kind: Kind) -> Path:
    """Return the folder of one kind of resource. Raises FileNotFoundError if the installation lacks it."""
    for candidate in (_PACKAGE / "_data" / kind, _PACKAGE.parent / kind):
        if candidate.is_dir():
            return candidate
    raise FileNotFoundError(f"this installation of puzzledsl has no {kind} folder")


def resource(kind: Kind, name: str) -> Path:
    """Return the path of one shipped file: `resource("spaces", "std/hardware.pzl")`.

    Raises FileNotFoundError if there is no such file, or if `name` leads out of the folder.
    """
    root = folder(kind)
    path = root / name
    if not path.resolve().is_relative_to(root.resolve()) or not path.is_file():
        raise FileNotFoundError(f"no {name!r} among the shipped {kind}")
    return path


def listing(kind: Kind, pattern: str = "**/*.pzl") -> list[str]:
    """Return the sorted names of the shipped files that match a glob, with `/` between folders."""
    root = folder(kind)
    return sorted(p.relative_to(root).as_posix() for p in root.glob(pattern) if p.is_file())
