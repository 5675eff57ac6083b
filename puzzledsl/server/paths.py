"""What names a file, and which files are nobody's to change."""

from __future__ import annotations

import os
from pathlib import Path

from puzzledsl.resources import folder


def key_of(path: Path | str) -> str:
    """What names a file, however its path is written."""
    return os.path.realpath(path)


def is_shipped(path: Path | str) -> bool:
    """True for a file that comes with the package."""
    return Path(key_of(path)).is_relative_to(key_of(folder("spaces")))
