"""The `pzl` command, in a process of its own that has its imports already."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests import forked


def pzl(*arguments: str | Path, timeout: int = 120) -> subprocess.CompletedProcess[str]:
    """Run `pzl ARGUMENTS` to its end."""
    command = ["-m", "puzzledsl.cli.main", *map(str, arguments)]
    return forked.run(command, env=forked.ONE_THREAD, timeout=timeout)
