"""Entry points of installed packages. Most programs have none, so the folders are looked through before metadata is parsed."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint


def entry_points(group: str) -> list[EntryPoint]:
    """Return the entry points of a group, sorted by name."""
    if not any(_may_have(folder or os.curdir, group.encode()) for folder in sys.path):
        return []
    from importlib import metadata

    return sorted(metadata.entry_points(group=group), key=lambda entry: entry.name)


def _may_have(folder: str, group: bytes) -> bool:
    """Return False if no package of a folder names the group. A zip file may have any group."""
    try:
        names = os.listdir(folder)
    except NotADirectoryError:
        return True
    except OSError:
        return False
    infos = (name for name in names if name.endswith((".dist-info", ".egg-info")))
    return any(group in _read(os.path.join(folder, info, "entry_points.txt")) for info in infos)


def _read(path: str) -> bytes:
    """Return the content of a file; nothing if it cannot be read."""
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read()
    except OSError:
        return b""
