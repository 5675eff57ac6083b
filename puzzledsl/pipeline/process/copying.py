"""Replace a directory as a whole: copy it beside the target, then rename."""

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


def clear_leftovers(target: Path) -> None:
    """Remove the temporary neighbours of `target` that a killed process left. Only under the build's lock."""
    for leftover in [
        *target.parent.glob(f".{target.name}.*tmp"),
        *target.parent.glob(f".{target.name}.*old"),
    ]:
        if leftover.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)
