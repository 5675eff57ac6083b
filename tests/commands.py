"""`pzl` in this process: for commands that load no PyTorch, or where the test has loaded it."""

import contextlib
import io
import json
from pathlib import Path
from typing import Any

from puzzledsl.cli import main


def said(*arguments: str | Path) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main.run([str(argument) for argument in arguments])
    return code, out.getvalue(), err.getvalue()


def told(*arguments: str | Path, code: int = 0) -> Any:
    """JSON that a command prints."""
    found, out, err = said(*arguments, "--json")
    assert found == code, err
    return json.loads(out)
