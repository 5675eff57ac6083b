"""Canonical keys of files, and the files that must not be edited."""

from __future__ import annotations

import os
from pathlib import Path

from puzzledsl.base.resources import folder


def key_of(path: Path | str) -> str:
    """Return the canonical key of a file: its real path, with links resolved."""
    return os.path.realpath(path)


def is_shipped(path: Path | str) -> bool:
    """Return True for a file shipped with the package."""
    return Path(key_of(path)).is_relative_to(key_of(folder("spaces")))
