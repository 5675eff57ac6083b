"""Node and what editors/vscode/package-lock.json pins, where a machine has them; .ci/run demands them."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

VSCODE = Path(__file__).parents[2] / "editors" / "vscode"
Node = Callable[..., str]


@pytest.fixture(scope="session")
def node() -> Node:
    """Runs a script of the extension's folder; its standard output."""
    program = shutil.which("node")
    missing = "node is not installed" if program is None else ""
    if not missing and not (VSCODE / "node_modules" / "vscode-textmate").is_dir():
        missing = "editors/vscode has no node_modules: `make setup` installs them"
    if missing and os.environ.get("PZL_NEEDS_NODE"):
        pytest.fail(missing)
    if missing:
        pytest.skip(missing)

    def run(*arguments: str, stdin: str = "") -> str:
        command = [str(program), *arguments]
        done = subprocess.run(
            command, cwd=VSCODE, input=stdin, capture_output=True, text=True, encoding="utf-8"
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run
