"""Directories replaced as a whole: copied beside, then renamed."""

from __future__ import annotations

import shutil
from pathlib import Path


def copy_directory(source: Path, target: Path) -> None:
    """Make `target` a copy of `source`. A reader sees the old directory or the new one."""
    temporary = target.with_name(f".{target.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(source, temporary)
    old = target.with_name(f".{target.name}.old")
    if target.exists():
        target.rename(old)
    temporary.rename(target)
    shutil.rmtree(old, ignore_errors=True)
