"""Patches of a copy of the package, and commands that run there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PARTS = ("puzzledsl", "scripts", "grammars", "spaces", "docs", "errors")


class Copy:
    """A copy of what the repository ships. `touched` are the files that `insert` changed."""

    def __init__(self, folder: Path) -> None:
        self.root, self.touched = folder, set[str]()
        for part in PARTS:
            shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))

    def insert(self, path: str, before: str, text: str) -> None:
        """Put text in front of the only place where `before` stands in a file."""
        file = self.root / path
        content = file.read_text("utf-8")
        assert content.count(before) == 1, f"`{before}` stands {content.count(before)} times in {path}"
        file.write_text(content.replace(before, text + before), "utf-8")
        self.touched.add(path)

    def python(self, code: str, *arguments: str) -> str:
        """Return what a program prints that imports the copy; helpers of the tests are the repository's."""
        path = os.pathsep.join((str(self.root), str(ROOT)))
        ran = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            cwd=self.root,
            env=os.environ | {"PYTHONPATH": path},
            capture_output=True,
            text=True,
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return ran.stdout
